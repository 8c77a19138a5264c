"""What pyproject.toml cannot say: the wheel holds below `benchmark/` what the sources have at top level."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = {"experiments": "experiments", "docs/reference": "reference"}  # of the sources -> below benchmark/
# numbers measured on images whose licence is not the program's (docs/reference/real) go with the sources alone, as
# MANIFEST.in has it: a wheel is the same from a checkout and from the source distribution
LEFT_OUT = ("__pycache__", "real")


class BuildPy(build_py):
    """Builds from an empty folder, since what an earlier build left there would go into the wheel."""

    def run(self):
        if self.editable_mode:
            return super().run()
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        for source, name in DATA.items():
            target = Path(self.build_lib) / "benchmark" / name
            shutil.copytree(Path(__file__).parent / source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))


setup(cmdclass={"build_py": BuildPy})

"""docs/dependencies.md lists what pyproject.toml names, and states the licences that installed packages state."""

import re
import tomllib
from importlib import metadata

import pytest

from benchmark.runtime.paths import ROOT

FAMILIES = {
    "Apache-2.0": {"Apache Software License", "Apache 2.0", "Apache-2.0"},
    "BSD": {"BSD License"},
    "BSD-3-Clause": {"BSD License", "BSD-3-Clause"},
    "MIT": {"MIT License", "MIT"},
    "PSF": {"Python Software Foundation License"},
}


def name(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower()


def declared() -> dict[str, str]:
    """Package -> what needs it: "all", "build" or an extra."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = content["project"]
    out = {name(one): "build" for one in content["build-system"]["requires"]}
    out |= {name(one): "all" for one in project["dependencies"]}
    for extra, packages in project["optional-dependencies"].items():
        assert not {name(one) for one in packages} & out.keys(), "named once"
        out |= {name(one): extra for one in packages}
    return out


def rows() -> dict[str, tuple[str, ...]]:
    """Package -> (needed by, what it does, licence, newest release) on the page."""
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert all(len(line) == 5 and all(line) for line in lines)
    assert len(lines) == len({line[0] for line in lines}), "each once"
    return {line[0].strip("`"): tuple(word.strip("`") for word in line[1:]) for line in lines}


def test_the_page_lists_what_the_project_names():
    assert {package: row[0] for package, row in rows().items()} == declared()


@pytest.mark.parametrize("package", rows())
def test_licences_are_those_of_the_installed_metadata(package):
    try:
        stated = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed: what it states cannot be compared")
    licence = rows()[package][2]
    if expression := stated.get("License-Expression"):
        assert licence == expression
        return
    classifiers = [
        line.rpartition(" :: ")[2] for line in stated.get_all("Classifier", []) if line.startswith("License")
    ]
    short = stated.get("License", "").splitlines()[:1]
    assert FAMILIES[licence] & {*classifiers, *short}, (classifiers, short)


@pytest.mark.parametrize("package", rows())
def test_licences_are_permissive(package):
    assert set(re.split(r" AND | WITH ", rows()[package][2])) <= {
        *FAMILIES, "0BSD", "BSD-2-Clause", "BSL-1.0", "CC0-1.0", "ISC", "LLVM-exception", "MIT-CMU", "Zlib",
    }  # fmt: skip


def test_versions_are_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {name(line).replace("_", "-") for line in lines if "==" in line}
    used = {package for package, needed in declared().items() if needed != "build"}
    assert used <= pinned, used - pinned


def test_a_stated_newest_release_is_a_month():
    assert all(re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])|unknown", row[3]) for row in rows().values())


def test_hand_written_parts_name_files_that_exist():
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").partition("\n## ")[2]
    paths = re.findall(r"`(benchmark/[\w/.]+)`", text)
    assert len(paths) > 10 and all((ROOT / path).exists() for path in paths)

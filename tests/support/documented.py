"""Commands that documents give, as the program gets them."""

import re
import shlex
import subprocess

from benchmark.runtime.paths import ROOT

PROGRAM = r"(?:\S+/)?python -m benchmark"


def lines(page: str) -> list[str]:
    """The lines of a page's blocks of shell, without comments; one that goes on behind a backslash is one."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line.partition("  #")[0].strip() for line in text.splitlines()]


def asked(command: str) -> list[str]:
    """The words that the program gets from a command of make or of Python."""
    if not command.startswith("make "):
        return shlex.split(re.sub(rf"^{PROGRAM} ", "", command))
    words = [*shlex.split(command), "--no-print-directory", "--dry-run", "READY=", "VENV=.venv"]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    (line,) = [text for text in shown.stdout.replace("\\\n", " ").splitlines() if "-m benchmark" in text]
    return shlex.split(line.partition("-m benchmark")[2])

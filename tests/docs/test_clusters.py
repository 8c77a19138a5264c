"""The commands of docs/clusters.md are ones that the program takes."""

import shlex

import pytest

from benchmark.cli import parser
from benchmark.experiment.launchers import devices
from benchmark.runtime.paths import ROOT
from tests.support.documented import asked, lines

PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
COMMANDS = [line for line in lines(PAGE) if line.startswith("make ")]


def test_there_are_commands_of_every_launcher():
    assert len(COMMANDS) > 5
    assert all(any(word in command for command in COMMANDS) for word in ("DEVICES", "=slurm", "=ray", "status"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_the_program_takes(command):
    options = parser().parse_args(asked(command))
    for word in shlex.split(command)[2:]:  # nothing is lost between make and the program
        value = word.partition("=")[2]
        flat = [str(item) for kept in vars(options).values() for item in (kept if isinstance(kept, list) else [kept])]
        assert value in flat or all(part in flat for part in value.split()), word
    if getattr(options, "slurm", None):
        slurm = pytest.importorskip("benchmark.experiment.launchers.slurm")
        pytest.importorskip("submitit")
        assert slurm.parse(options.slurm)["partition"] == "gpu"
    if (named := getattr(options, "devices", None)) and "cuda" not in named:
        assert devices.slots(named)

"""docs/score.md holds what it says."""

import re
import shlex

import pytest

from benchmark.cli import parser
from benchmark.data.files import class_names
from benchmark.formats import collection, type_names
from benchmark.runtime.paths import ROOT

TEXT = (ROOT / "docs/score.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m benchmark (.*)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line):
    options = parser().parse_args(shlex.split(line))
    assert options.command in ("score", "import") and options.pred


def test_the_examples_cover_both_commands():
    assert {line.split()[0] for line in COMMANDS} == {"score", "import"}


def test_every_format_is_listed_and_every_listed_one_is_read():
    table = TEXT.partition("| file |")[2].partition("\n\n")[0]
    firsts = [line.split("|")[1] for line in table.splitlines()[2:]]
    listed = {suffix for first in firsts for suffix in re.findall(r"`\w*(\.\w+)`", first)}
    assert listed == set(collection.SUFFIXES)


def test_the_classes_example_is_valid(tmp_path):
    (tmp_path / "classes.toml").write_text(re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)[1])
    settings = type_names.read(tmp_path / "classes.toml")
    assert settings.mpp == 0.25 and len(settings.classes) == 5
    assert [settings.pred.id_of(w, "f") for w in ("tumor", "Immune cells", "Other", "dead")] == [1, 2, 0, 4]


def test_the_map_example_is_valid(tmp_path):
    (tmp_path / "map.toml").write_text(re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[1])
    ids = class_names.read_map(tmp_path / "map.toml").ids(("Neoplastic", "Inflammatory"))
    assert ids == {"tumour cell": 1, "lymphocyte": 2, "plasma cell": 2, "mitosis": 0}


def test_every_option_is_explained():
    told = set(re.findall(r"--[a-z]+(?:-[a-z]+)*", TEXT))
    choices = next(a for a in parser()._actions if a.dest == "command").choices
    known = {word for c in ("score", "import") for a in choices[c]._actions for word in a.option_strings}
    assert told <= known
    own = {word for a in choices["score"]._actions for word in a.option_strings if word.startswith("--")}
    assert own - {"--help"} <= told

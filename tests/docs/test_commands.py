"""The commands that documents give for training are not refused: every cell that they ask for can run."""

import re

import pytest

from benchmark import commands
from benchmark.cli import parser
from benchmark.commands import _options as shared
from benchmark.commands import transfer
from benchmark.layers.backbones import BACKBONES
from benchmark.runtime.paths import ROOT
from tests.support.documented import PROGRAM, asked, lines

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
TRAIN = ("ablation", "run", "status", "transfer")
WHOLE = re.compile(rf"(?:make|{PROGRAM}) +({'|'.join(TRAIN)})\b.*")
# left open, of a method or an experiment that the reader is to write, or of data that are read when they are named
OPEN = re.compile(r"…|<|^make (?:run|transfer)$|PIP_ARGS|METHOD=mine|EXPERIMENT=ours|two_convolutions|DATASET=folder")


def documented() -> list[str]:
    """Whole commands in pages, in the Makefile, in the help of commands and at the head of experiments."""
    texts = []
    for name, text in TEXTS.items():
        if name != "CONTRIBUTING.md":  # a test runs its own
            rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
            texts += [*lines(text), *re.findall(r"`([^`\n]+)`", rest)]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts += re.findall(r"example: (make [^\"]+)\"", makefile)
    for target, words in re.findall(r"^(run|transfer): .*?## .*?: (.*)$", makefile, re.MULTILINE):
        texts.append(f"make {target} {re.sub(r'[][]', '', words).replace('...', '/data')}")
    texts += [f"python -m benchmark {name} {commands.module(name).EXAMPLE}" for name in TRAIN]
    for path in sorted((ROOT / "experiments").glob("*.py")):
        texts += re.findall(r"^#   (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [text for text in dict.fromkeys(texts) if WHOLE.fullmatch(text) and not OPEN.search(text)]


COMMANDS = documented()


def cells_of(options) -> list:
    """The cells that a command asks for, without their data."""
    from benchmark.experiment.grid import cells
    from benchmark.experiment.transfer import training

    if options.command == "transfer":
        sets = [transfer._set(word, options.data_root) for word in options.train]
        setups = [shared.setup(options, False, dataset=name, data_root=root, scheme=None) for name, root in sets]
        return [training(setup, options.method, options.fold, options.seed) for setup in setups]
    if options.command == "run":
        return cells(shared.setup(options, False), [options.method], [options.fold], [options.seed])
    return shared.chosen_cells(options, writes=False)


def test_commands_are_seen():
    assert len(COMMANDS) > 40
    assert {WHOLE.fullmatch(command)[1] for command in COMMANDS} == {*TRAIN}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_cell_of_a_documented_command_can_run(command, tmp_path):
    options = parser().parse_args(asked(command))
    options.results = tmp_path / "results"
    (tmp_path / "weights").write_bytes(b"weights")
    if options.backbone:  # any file will do: nothing is loaded
        options.backbone = re.sub(r"[^\s=]+\.(?:bin|pth|tar)\b", str(tmp_path / "weights"), options.backbone)
    supported = {str(cell.spec): cell.supports() for cell in cells_of(options)}
    refused = [f"{method}: {why}" for method, (usable, why) in supported.items() if not usable]
    assert supported and not refused, refused


def test_extras_are_installed_where_make_looks_for_them():
    pages = "\n".join(text for name, text in TEXTS.items() if name != "docs/install.md")  # which has other ways too
    installed = re.findall(r"^.*pip install.*'\.\[.*$", pages, re.MULTILINE)
    assert installed and all(".venv/bin/pip install -c constraints.txt -e '.[" in line for line in installed)


def test_what_is_fetched_for_the_hub_s_cache_has_the_name_that_is_asked_for():
    fetched = {name for text in TEXTS.values() for name in re.findall(r"hf download ([\w./-]+)", text)}
    assert fetched and fetched <= {row.get("hub", "").removeprefix("hf-hub:") for row in BACKBONES.values()}

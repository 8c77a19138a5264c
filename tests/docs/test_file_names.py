"""Names point at something: files, modules, make targets and commands in documents, Makefile, CI and docstrings."""

import ast
import importlib
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from benchmark import commands
from benchmark.runtime.paths import ROOT

FOLDERS = ("benchmark", "docs", "experiments", "perf", "tests", ".ci", ".github")
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.md"))),
    *(ROOT / folder / "README.md" for folder in ("results", "reports")),
]
PLAIN = ["Makefile", ".ci/run", "pyproject.toml", ".pre-commit-config.yaml", ".github/workflows/ci.yml", "CITATION.cff"]
SOURCES = [p for d in ("benchmark", "perf", "experiments") for p in sorted((ROOT / d).rglob("*.py"))]
TEXTS = [*PAGES, *(ROOT / name for name in PLAIN), *SOURCES]
# files that a reader is invited to write, those of the examples among them, and one that a run leaves
GUIDE = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "docs/plugins.md"))
YOURS = {
    "my/grid.py",
    "card.md",
    "docs/reference/representations/runs",
    *re.findall(r"^# (\S+\.py)$", GUIDE, re.MULTILINE),
}

# a file or folder below one of ours; any file with the ending of code or a document; a module, with what it holds
PLACE = r"(?<![\w/.@-])(?:benchmark|tests|perf|experiments|docs|\.ci|\.github)/[\w./*-]*"
FILE = r"(?<![\w/.@<>*-])(?:[\w.-]+/)*[\w-][\w.-]*\.(?:py|md|sh|cu|yml|cff|mplstyle)\b(?![\w*])"
MODULE = r"(?<![\w/.@-])benchmark(?:\.[A-Za-z_]\w*)+"
WINGS = "|".join(sorted(p.name for p in (ROOT / "benchmark").iterdir() if (p / "__init__.py").exists()))
WING = rf"`((?:{WINGS})(?:\.(?!(?:json|safetensors)\b)[A-Za-z_]\w*)+)"
LINK = r"\]\((?!https?:|#)([^)#\s]+)"


@cache
def files() -> list[str]:
    """The repository's files relative to its root, with a leading slash; none that runs, git or caches leave."""
    found = [p for folder in FOLDERS for p in (ROOT / folder).rglob("*")] + [*ROOT.glob("*"), *PAGES]
    return [f"/{p.relative_to(ROOT).as_posix()}" for p in found if p.is_file() and "__pycache__" not in p.parts]


def missing(text: str, folder: Path = ROOT, code: str | None = None) -> list[str]:
    """Names in `text` that nothing has.

    Args:
        folder: where the text lies; links are relative to it.
        code: the part of `text` that is code, in which `make x` and `python -m benchmark x` are commands.
    """
    code = text if code is None else code
    places = {name.rstrip(".") for name in re.findall(PLACE, text)} - YOURS
    out = [name for name in places if not any(ROOT.glob(name.rstrip("/")))]
    out += [f for f in set(re.findall(FILE, text)) - YOURS - places if not is_file(f)]
    out += [name for name in set(re.findall(MODULE, text)) if not is_module(name)]
    out += [name for name in set(re.findall(WING, text)) if not is_module(f"benchmark.{name}")]
    out += [link for link in set(re.findall(LINK, text)) if not (folder / link).exists()]
    out += [f"make {t}" for t in set(re.findall(r"\bmake ([a-z][\w-]*)", code)) - targets()]
    called = set(re.findall(r"-m benchmark ([a-z][\w-]*)", code))
    out += [f"python -m benchmark {c}" for c in called - set(commands.names())]
    return sorted(set(out))


def is_file(name: str) -> bool:
    """Whether a file's path ends in `name`, or `name` lies in a folder that is none of ours: another project's file."""
    name = name.removeprefix("../")
    folder, slash, _ = name.partition("/")
    foreign = slash and not any(f"/{folder}/" in path for path in files())
    return bool(foreign) or any(path.endswith("/" + name) for path in files())


@cache
def is_module(dotted: str) -> bool:
    """Whether a module has this name, or holds what has it."""
    parts = dotted.split(".")
    n = len(parts)
    while not {f"/{'/'.join(parts[:n])}.py", f"/{'/'.join(parts[:n])}/__init__.py"} & set(files()):
        n -= 1
    value = importlib.import_module(".".join(parts[:n]))
    for part in parts[n:]:
        if not hasattr(value, part) and part not in getattr(value, "__annotations__", {}):
            return False
        value = getattr(value, part, None)
    return True


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def prose(source: str) -> str:
    """Comments and docstrings of a Python file."""
    tree = ast.parse(source)
    described = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    parts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, described)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join([*parts, *(token.string for token in tokens if token.type == tokenize.COMMENT)])


def code_of(page: str) -> str:
    """The code of a Markdown page: fenced blocks and what stands in backticks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```\w*\n.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    return "\n".join([*fenced, *re.findall(r"`([^`]+)`", rest)])


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_names_exist(path):
    text = path.read_text(encoding="utf-8")
    code = None
    if path.suffix == ".md":
        code = code_of(text)
    elif path.suffix == ".py":
        text = prose(text)
        code = code_of(text)
    elif path.name == "CITATION.cff":
        code = ""
    wrong = missing(text, path.parent, code)
    assert not wrong, f"{path.relative_to(ROOT)} names what does not exist: {', '.join(wrong)}"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("see `benchmark/metrics/match.py`, benchmark/methods/*.py and docs/reference/embedded.", []),
        ("`benchmark/metrics/nowhere.py` and docs/absent/.", ["benchmark/metrics/nowhere.py", "docs/absent/"]),
        ("perf/nothing*.py", ["perf/nothing*.py"]),
        ("as match.py and metrics/match.py say, and Lib/pickletools.py of Python", []),
        ("as mtach.py says, and metrics/cells.py", ["metrics/cells.py", "mtach.py"]),
        ("benchmark.metrics.evaluate, benchmark.metrics.records.Records.images, `data.nuclei.Nuclei`", []),
        ("benchmark.metrics.evaluation.", ["benchmark.metrics.evaluation"]),
        ("`benchmark.metrics.records.Records.pictures`", ["benchmark.metrics.records.Records.pictures"]),
        ("`data.pixels.Nuclei`", ["data.pixels.Nuclei"]),
        ("[metrics](docs/metrics.md#speed), [gone](docs/gone)", ["docs/gone"]),
        ("make tset; make test; python -m benchmark stauts", ["make tset", "python -m benchmark stauts"]),
    ],
)
def test_a_name_that_nothing_has_is_seen(text, wrong):
    assert missing(text) == wrong

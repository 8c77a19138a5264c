"""The architecture, held: who imports whom, what never imports torch, how long a file may be."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from benchmark.runtime.paths import ROOT
from tests.support.import_law import MAY_IMPORT, PACKAGE, WINGS, wings_below

FILES = sorted(PACKAGE.rglob("*.py"))
ALL = FILES + [f for d in ("tests", "perf", "experiments") for f in sorted((ROOT / d).rglob("*.py"))]
HEAVY = {"torch", "torchvision", "timm", "mmengine"}  # mmengine imports torch
BANNED = {"cv2", "albumentations", "shapely"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(f): f for f in FILES}


def imported(tree: ast.AST, module: str, is_package: bool = False) -> set[str]:
    """Full names of all modules imported anywhere in `tree`, inside functions too."""
    out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_package else module.split(".")[:-1]
                parents = parents[: len(parents) - (node.level - 1)]
                base = ".".join([*parents, *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                out.add(full if full in MODULES else base)
    return out


@cache
def imports_of(module: str) -> frozenset[str]:
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(imported(tree, module, path.name == "__init__.py"))


def inside(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


def part_of(module: str) -> str | None:
    """The most specific entry of MAY_IMPORT that `module` belongs to."""
    return max((p for p in MAY_IMPORT if inside(module, p)), key=len, default=None)


def closure(module: str) -> set[str]:
    """All that importing `module` can import, ours followed, with the packages that hold them."""
    seen, queue = set(), [module]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in MODULES:
            queue += imports_of(name)
            parent = name.rpartition(".")[0]
            if parent:
                queue.append(parent)
    return seen


def test_relative_and_nested_imports_are_seen():
    code = "def f():\n    from . import base\n    from ..runtime.errors import InputError\n    import torch.nn"
    found = imported(ast.parse(code), "benchmark.methods.cellvta")
    assert found == {"benchmark.methods.base", "benchmark.runtime.errors", "torch.nn"}
    assert part_of("benchmark.data.nuclei") == "benchmark.data.nuclei" and part_of("benchmark") is None


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"benchmark"}))
def test_imports_flow_one_way(module):
    part = part_of(module)
    allowed = MAY_IMPORT[part] | {part}
    ours = {i for i in imports_of(module) if inside(i, "benchmark")}
    ours -= {"benchmark"}  # holds the version and the public names, which it fetches when they are asked for
    wrong = {i for i in ours if not any(inside(i, a) for a in allowed)}
    assert not wrong, f"{module} imports {sorted(wrong)}; {part} may import {sorted(allowed) or 'nothing of ours'}"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if inside(m, "benchmark.methods")))
def test_methods_do_not_import_each_other(module):
    for name in imports_of(module):
        shared = ("benchmark.methods.base", "benchmark.methods.registry")
        assert not (inside(name, "benchmark.methods") and name not in shared), f"{module} -> {name}"


def test_every_folder_has_a_law():
    folders = {f.parent for f in FILES if f.parent != PACKAGE}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    # a folder inside a wing that stands alone keeps the wing's law
    assert {name for name in names if part_of(name) is None} == set()
    assert {f"benchmark.{wing}" for wing in WINGS} <= MAY_IMPORT.keys()


def test_wings_have_an_order():
    left = {wing: wings_below(wing) for wing in WINGS}
    while left:
        free = [wing for wing, below in left.items() if not below & left.keys()]
        assert free, f"wings that import each other in a circle: {sorted(left)}"
        left = {wing: below for wing, below in left.items() if wing not in free}


def test_the_law_allows_nothing_that_nobody_needs():
    """A row that has become too wide would hide the next wrong import."""
    needed = {part: set() for part in MAY_IMPORT}
    for module in MODULES:
        if part := part_of(module):
            needed[part] |= imports_of(module)
    for part, allowed in MAY_IMPORT.items():
        idle = {name for name in allowed if not any(inside(i, name) for i in needed[part])}
        assert not idle, f"{part} may import {sorted(idle)}, and does not"


def test_no_import_cycle():
    done, path = set(), []

    def visit(module):
        assert module not in path, f"import cycle: {' -> '.join([*path[path.index(module) :], module])}"
        if module in done:
            return
        path.append(module)
        for name in sorted(imports_of(module) & set(MODULES) - {module}):
            visit(name)
        path.pop()
        done.add(module)

    for module in sorted(MODULES):
        visit(module)


@pytest.mark.parametrize(
    "part", ["benchmark.metrics", "benchmark.postproc", "benchmark.representations", "benchmark.report"]
)
def test_never_imports_torch(part):
    for module in sorted(m for m in MODULES if inside(m, part)):
        heavy = {i for i in closure(module) if i.split(".")[0] in HEAVY}
        assert not heavy, f"{module} reaches {sorted(heavy)}"


def test_timm_is_imported_in_one_place():
    """Elsewhere it would import wandb."""
    users = {m for m in MODULES if any(inside(name, "timm") for name in imports_of(m))}
    assert users == {"benchmark.runtime.timm_alone"}


QUICK = ["benchmark.report.write", "benchmark.metrics.protocols", "benchmark.postproc.hv", "benchmark.cli"]
# what processes that decode import when they start
QUICK += [f"benchmark.evaluation.{name}" for name in ("decode_score", "decode_grid", "slides.tiles")]


@pytest.mark.parametrize("module", QUICK)
def test_torch_is_not_loaded(module):
    code = f"import sys, {module}; print([m for m in {sorted(HEAVY)} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", f"importing {module} loads {done.stdout.strip()}"


@pytest.mark.parametrize("path", ALL, ids=lambda p: str(p.relative_to(ROOT)))
def test_file(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 400, "no file is longer than 400 lines"
    assert path.name != "utils.py", "name the file after what it does"
    banned = {i for i in imported(tree, module_name(path)) if i.split(".")[0] in BANNED}
    assert not banned, f"imports {sorted(banned)}"
    assert not unsafe_loads(tree), "loading must never execute: torch.load needs weights_only=True, np.load no pickle"


def test_tests_share_by_support_alone():
    """What several tests need lies in tests/support: no test imports another, nor conftest, which is pytest's own."""

    def wrong(text: str, module: str) -> set[str]:
        names = imported(ast.parse(text), module)
        return {name for name in names if inside(name, "tests") and not inside(name, "tests.support")}

    assert wrong("from tests.ops.test_cpu import run\nfrom tests.ops import test_cpu", "tests.ops.test_torch")
    assert wrong("from ..conftest import cache", "tests.ops.test_torch") == {"tests.conftest"}
    files = sorted((ROOT / "tests").rglob("*.py"))
    seen = {module_name(path): wrong(path.read_text(encoding="utf-8"), module_name(path)) for path in files}
    assert not {module: names for module, names in seen.items() if names}


def unsafe_loads(tree: ast.AST) -> list[int]:
    """Lines that call torch.load without weights_only=True or np.load with allow_pickle other than False."""
    out = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load"):
            continue
        owner = ast.unparse(node.func.value)
        options = {k.arg: ast.unparse(k.value) for k in node.keywords}
        unsafe_torch = owner == "torch" and options.get("weights_only") != "True"
        unsafe_numpy = owner in ("np", "numpy") and options.get("allow_pickle", "False") != "False"
        if unsafe_torch or unsafe_numpy or owner in ("pickle", "joblib"):
            out.append(node.lineno)
    return out


def test_unsafe_loads_are_seen():
    code = "torch.load(f)\nnp.load(f)\nnp.load(f, allow_pickle=True)\n"
    code += "torch.load(f, weights_only=True)\npickle.load(f)"
    assert unsafe_loads(ast.parse(code)) == [1, 3, 5]

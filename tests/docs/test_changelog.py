"""CHANGELOG.md names every version number that stands for results, as it is now."""

import importlib
import re
import tomllib

import pytest

import benchmark
from benchmark.methods import registry
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.runtime.paths import ROOT

PAGE = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
# what the page calls it -> the module whose VERSION it is
MODULES = {
    "records": "benchmark.metrics.records",
    "prepared data": "benchmark.data.store.convert",
    "drawn images": "benchmark.data.sources.synthetic",
    "pretraining": "benchmark.training.pretrain",
    "joined sets": "benchmark.data.joint_sides",
    "patches for pretraining": "benchmark.training.pretext",
}


def current() -> dict[str, int]:
    """Name on the page -> version in the code."""
    out = {name: importlib.import_module(module).VERSION for name, module in MODULES.items()}
    out |= {f"protocol `{name}`": protocol.version for name, protocol in PROTOCOLS.items()}
    return out | {f"method `{name}`": registry.method_class(name).version for name in registry.method_names()}


def newest(page: str, name: str) -> int:
    """The highest version of `name` that the page mentions, 0 when it mentions none."""
    start = r"(?<!for\s)" if name == "pretraining" else ""
    pattern = start + rf"\b{re.escape(name)}".replace(r"\ ", r"\s+") + r"\s+(\d+)\b"
    return max(map(int, re.findall(pattern, page, re.IGNORECASE)), default=0)


@pytest.mark.parametrize("name", current())
def test_every_version_has_an_entry(name):
    version = current()[name]
    assert newest(PAGE, name) == version, f"{name} is {version}: write in CHANGELOG.md what that changes"


def test_every_module_with_a_version_is_listed():
    files = [p for p in (ROOT / "benchmark").rglob("*.py") if re.search(r"^VERSION = \d", p.read_text(), re.MULTILINE)]
    assert {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in files} == set(MODULES.values())


def test_a_version_without_an_entry_is_seen():
    page = "records 2 … protocol `clean`\n  3, method `cellvta` 1. Patches for pretraining 7."
    assert [newest(page, n) for n in ("records", "protocol `clean`", "method `cellvta`")] == [2, 3, 1]
    assert newest(page, "patches for pretraining") == 7 and newest(page, "pretraining") == 0
    assert newest(page, "protocol `cellvit`") == 0


def test_the_package_has_one_version_and_a_section():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == benchmark.__version__
    assert f"\n## {benchmark.__version__}" in PAGE and PAGE.index("\n## Unreleased") < PAGE.index("\n## 0.1.0")

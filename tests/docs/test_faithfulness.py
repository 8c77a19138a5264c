"""docs/faithfulness.md tells the truth: its figures are those of the script, its switches exist."""

import importlib.util
import math
import re

import pytest

from benchmark.experiment import config
from benchmark.methods import registry
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.runtime.paths import ROOT
from benchmark.training.scales import SCALES

PAGE = (ROOT / "docs" / "faithfulness.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("quirk_effects", ROOT / "perf" / "quirk_effects.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def number(text: str) -> float:
    return math.nan if text == "–" else 0.0 if text == "<1e-6" else float(text)


def stated() -> dict[tuple[str, str], tuple[float, float]]:
    """(quirk, what is measured) -> (as published, without), from the page."""
    block = PAGE.split("<!-- effects -->")[1].split("<!-- /effects -->")[0]
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in block.splitlines() if line.startswith("|")]
    return {(quirk, measured): (number(a), number(b)) for quirk, measured, a, b in lines[2:]}


def compare(rows: list[dict], rel: float) -> None:
    told = stated()
    for row in rows:
        expected = (row["published"], row["without"])
        assert told[row["quirk"], row["measured"]] == pytest.approx(expected, rel=rel, abs=1e-6, nan_ok=True), row


def test_figures_are_those_of_the_script(script):
    """All but the network's and those on drawn images."""
    rows = script.loss_terms() + script.learning_rate() + script.offsets() + script.sampling_factors()
    rows += script.selection() + script.evaluations()
    assert len(rows) >= 19 and len(stated()) > len(rows)
    compare(rows, 0.02)


@pytest.mark.slow
def test_figures_of_the_network_are_those_of_the_script(script):
    rows = script.network()
    assert len(rows) == 9
    compare(rows, 0.02)


def test_switches_exist():
    named = set(re.findall(r"`(cellvta|cellvit|hovernet)@([a-z_]+)(?:=([a-z0-9.+]+))?[`,]", PAGE))
    assert len(named) > 4
    for name, key, value in named:
        cls = registry.method_class(name)
        assert key in cls.presets if not value and key not in cls.arguments() else key in cls.arguments(), (name, key)
    for argument in ("double_softmax", "cross_msge"):
        assert f"`{argument}`" in PAGE and all(
            argument in registry.method_class(m).arguments() for m in ("cellvta", "cellvit")
        )
    recipe = SCALES["paper"]
    for dotted in set(re.findall(r"`recipe\.([a-z_.]+)`", PAGE)):
        value = recipe
        for part in dotted.split("."):
            value = getattr(value, part)
    for protocol in ("cellvta_conic", "cellvit", "clean", "hovernet", "pannuke", "conic"):
        assert f"`{protocol}`" in PAGE or f"`PROTOCOL={protocol}`" in PAGE
        assert protocol in PROTOCOLS


def test_the_quirks_experiment_has_every_switch_of_cellvta():
    named = [m.partition("@")[2].partition("=")[0] for m in config.load("quirks").methods if "@" in m]
    rows = {row: registry.parse(f"cellvta@{row}").arguments for row in ("paper", "matched")}
    differing = {k for k in rows["paper"] if rows["paper"][k] != rows["matched"][k]}
    assert set(named) == differing and len(named) == len(set(named))
    for method in config.load("quirks").methods[1:]:
        key = method.partition("@")[2].partition("=")[0]
        assert registry.parse(method, "matched").arguments[key] == rows["paper"][key], "a quirk is switched on"

"""docs/representations.md: its figures are those of the committed tables, its names those of the code."""

import csv
import re

import pytest

from benchmark.experiment.config import load
from benchmark.experiment.grid import cells
from benchmark.experiment.setup import Setup
from benchmark.representations.named import REPRESENTATIONS, representation
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT

PAGE = (ROOT / "docs" / "representations.md").read_text(encoding="utf-8")
FOLDER = ROOT / "docs" / "reference" / "representations"


def stored(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def block(name: str) -> list[list[str]]:
    """The rows of the table behind a mark of the page."""
    text = PAGE.partition(f"<!-- {name} -->")[2].partition("<!-- end -->")[0]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines()[3:]]


@pytest.mark.parametrize("mpp", ["0.25", "0.5"])
def test_ceilings_are_those_of_the_committed_table(mpp):
    lines = [line for line in stored("ceilings.csv") if line["mpp"] == mpp and line["by"] != "neighbour_um"]
    shown = block(f"ceilings {mpp}")
    assert len(shown) == 6 and len(lines) == 18
    for nuclei, count, *scores in shown:
        of_bin = {line["representation"]: line for line in lines if line["bin"] == nuclei.removesuffix(" µm")}
        assert count == of_bin["hv"]["n_true"]
        expected = [of_bin[name] for name in ("hv", "stardist", "flows")]
        assert scores == [f"{float(line['recall']):.3f}, {float(line['PQ']):.3f}" for line in expected]


def test_times_are_those_of_the_committed_table():
    lines = stored("speed.csv")
    shown = block("speed")
    assert [row[3] for row in shown] == [line["ours_ms"] for line in lines]
    assert all(float(line["ratio"]) < 1.5 for line in lines if line["ratio"])
    assert all(float(line["ours_ms"]) < 500 for line in lines if line["representation"] in ("hv", "stardist"))


def test_the_page_lists_all_representations_with_their_maps():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.MULTILINE))
    assert set(rows) == set(REPRESENTATIONS)
    for name in ("hv", "stardist", "flows"):
        named = {key: int(n) for key, n in re.findall(r"`(\w+)` (\d+)", rows[name])}
        assert named == representation(name).channels()


def test_the_experiment_has_both_arms_with_each():
    methods = load("representations").methods
    for name in REPRESENTATIONS:
        for arm in ("cellvta", "decoder_only"):
            assert sum(m.startswith(f"{arm}@instances={name},recipe.optimiser.lr=") for m in methods) == 1
    assert len(methods) == 2 * len(REPRESENTATIONS)


def test_with_hv_maps_its_cells_are_those_of_the_claim(tmp_path):
    """The same folders with the same keys: what the claim has trained is not trained again."""
    own, claim = (
        {cell.run: cell.key for cell in cells(Setup("synthetic@patches=168", None, "mini", name, tmp_path, tmp_path))}
        for name in ("representations", "claim")
    )
    shared = {run: key for run, key in claim.items() if not run.method.startswith("full_finetune")}
    assert len(shared) == 18 and len(own) == 4 * len(shared)
    assert {run: own.get(run) for run in shared} == shared


@pytest.mark.parametrize("name", ["stardist", "flows"])
def test_a_grid_of_postprocess_fits_the_representation(name):
    from benchmark.commands.postprocess import settings

    grid = settings(f"postprocess_{name}", representation(name), 0.25)
    assert grid["published"] == representation(name).settings(0.25) and len(set(grid.values())) == len(grid)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_a_grid_that_does_not_fit_names_one_that_does(name):
    from benchmark.commands.postprocess import settings

    wrong = "postprocess" if name == "flows" else "postprocess_flows"
    with pytest.raises(InputError, match=rf"experiment '{wrong}': unknown .* --grid names another, such as") as e:
        settings(wrong, representation(name), 0.25)
    named = re.search(r"such as (\w+) for", str(e.value))[1]
    assert settings(named, representation(name), 0.25)

"""The adapter's gain by representation: planted gains and interactions are found, other rows take no part."""

import statistics

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection

from benchmark.report.build import build
from benchmark.report.figures.representations import representations_figure
from benchmark.report.select.groups import MOST, Group, Row
from benchmark.report.select.observations import Observed
from benchmark.report.tables.representations import representation_table
from benchmark.runtime.plugins import words_of
from tests.support.report_runs import Stub, make_run, read_csv, squares

CLUSTERS = 40
HV = {"cellvta@mini": 0.05, "decoder_only@mini": 0.02}
STARDIST = {"cellvta@mini,instances=stardist": 0.06, "decoder_only@mini,instances=stardist": 0.06}
FLOWS = {"cellvta@mini,instances=flows": 0.06, "decoder_only@mini,instances=flows": 0.05}
TUNED = "cellvta@mini,recipe.optimiser.lr=0.004"


def rows(shifts: dict[str, float], seeds=(0, 1), splits=(1,), **pairs) -> tuple[Observed, dict[str, Row]]:
    """A row of each specification, better than noise by its shift and 0.01 × seed; an image's noise is all rows'.

    Args:
        pairs: by the representation: (split, seed) pairs of its cellvta, where these are not all.
    """
    frames, built = {}, {}
    for spec, shift in shifts.items():
        runs, words = [], words_of(spec.partition("@")[2])
        name = next((word.removeprefix("instances=") for word in words if word.startswith("instances=")), "hv")
        every = [(split, seed) for split in splits for seed in seeds]
        for split, seed in pairs.get(name, every) if spec.startswith("cellvta") else every:
            rng = np.random.Generator(np.random.PCG64([split, seed]))
            own = np.random.Generator(np.random.PCG64([split, seed, len(built)])).normal(0, 0.002, CLUSTERS)
            gain = shift + 0.01 * seed * spec.startswith("cellvta")
            values = rng.normal(0.5, 0.1, CLUSTERS) + gain + own
            folder = f"{spec}-{split}-{seed}"
            frames[folder] = pd.DataFrame({"bPQ": values, "mPQ": values, "cluster": np.arange(CLUSTERS), "tissue": ""})
            runs.append(Stub(folder, split, seed))
        built[spec] = Row(spec, ("", ""), runs, spec)
    return Observed([f"s{i:02}" for i in range(CLUSTERS)], True, frames), built


def group(built: dict[str, Row], asked=(), splits=(1,)) -> Group:
    return Group("synthetic", "main", "mini", list(splits), [0, 1], list(built.values()), asked=list(asked))


def table_of(seen: Observed, built: dict[str, Row], asked=(), splits=(1,)):
    return representation_table(group(built, asked, splits), seen, "caption", [])


def by_name(table) -> dict[str, dict]:
    """Representation -> its record of bPQ."""
    return {record["representation"]: record for record in table.records if record["metric"] == "bPQ"}


def without(table) -> str:
    """The note on what was not measured."""
    return next((note for note in table.notes if note.startswith("Not measured")), "")


def test_gains_and_interactions_are_found():
    shifts = HV | STARDIST | {"cellvta@mini,instances=flows": 0.09}  # without its other arm
    shifts |= {"cellvta@mini,instances=flows,points=8": 0.09, "full_finetune@mini,instances=stardist": 0.2}
    table = table_of(*rows(shifts))
    assert [block.title for block in table.blocks] == ["bPQ", "bPQ, interaction", "mPQ", "mPQ, interaction"]
    assert [line[0] for line in table.blocks[0].rows] == ["representation", "hv", "stardist"]
    assert [line[0] for line in table.blocks[1].rows] == ["representation", "stardist"]
    hv, stardist = by_name(table).values()
    assert hv["gain"] == pytest.approx(0.035, abs=2e-3) and hv["low"] < hv["gain"] < hv["high"]
    assert "interaction" not in hv and not without(table)
    assert stardist["gain"] == pytest.approx(0.005, abs=2e-3)
    assert stardist["interaction"] == pytest.approx(-0.03, abs=2e-3)
    assert stardist["interaction_low"] < stardist["interaction"] < stardist["interaction_high"] < 0


def test_the_spread_of_the_pairs_stands_beside_every_interval():
    hv = by_name(table := table_of(*rows(HV | STARDIST, splits=(1, 2)), splits=(1, 2)))["hv"]
    assert hv["pairs"] == 4 and hv["lowest"] == pytest.approx(0.03, abs=2e-3)
    assert hv["highest"] == pytest.approx(0.04, abs=2e-3)
    assert hv["sd_over_seeds"] == pytest.approx(0.01 / 2**0.5, abs=1e-3), "over the seeds of a split"
    assert table.blocks[0].rows[1][4:] == [
        str(hv["clusters"]),
        "4/4",
        f"{hv['lowest']:+.3f}, {hv['highest']:+.3f}",
        "0.007",
    ]
    assert any("of these very trainings" in note and "split 1, seed 0" in note for note in table.notes)
    single = table_of(*rows(HV | STARDIST, seeds=(0,), splits=(1, 2)))
    assert {line[-1] for block in single.blocks for line in block.rows[1:]} == {"–"}, "one seed a split has no spread"


def test_on_a_partial_grid_an_interaction_is_of_the_pairs_that_all_four_rows_have():
    """hv has three pairs, the adapter with stardist one: what stands in a line adds up."""
    seen, built = rows(HV | STARDIST, splits=(1, 2), hv=[(1, 0), (1, 1), (2, 0)], stardist=[(1, 0)])
    table = table_of(seen, built, splits=(1, 2))
    hv, stardist = by_name(table).values()
    means = {folder: frame["bPQ"].mean() for folder, frame in seen.images.items()}

    def gain(of: str, *pairs) -> float:
        arms = (f"{arm}@mini{of}" for arm in ("cellvta", "decoder_only"))
        a, b = ([means[f"{arm}-{split}-{seed}"] for split, seed in pairs] for arm in arms)
        return statistics.fmean(a) - statistics.fmean(b)

    assert hv["pairs"] == 3 and hv["gain"] == pytest.approx(gain("", (1, 0), (1, 1), (2, 0)))
    own, first = gain(",instances=stardist", (1, 0)), gain("", (1, 0))
    assert abs(hv["gain"] - first) > 2e-3, "else the test could not fail"
    assert (stardist["pairs"], stardist["interaction_pairs"], stardist["interaction_clusters"]) == (1, 1, CLUSTERS)
    assert (stardist["gain"], stardist["common_gain"]) == (pytest.approx(own), pytest.approx(own))
    assert stardist["hv_gain"] == pytest.approx(first) and stardist["interaction"] == pytest.approx(own - first)
    assert table.blocks[0].rows[2][1].startswith(f"{means['cellvta@mini,instances=stardist-1-0']:.3f} [")
    assert table.blocks[0].rows[2][2].startswith(f"{means['decoder_only@mini,instances=stardist-1-0']:.3f} [")
    assert table.blocks[1].rows[1][1:3] == [f"{own:+z.3f}", f"{first:+z.3f}"]


def test_no_interaction_without_a_pair_that_all_four_rows_have():
    seen, built = rows(HV | STARDIST, hv=[(1, 0)], stardist=[(1, 1)])
    table = table_of(seen, built)
    assert all("gain" in record and "interaction" not in record for record in table.records[1:2])
    assert "stardist and hv have no split and seed in common" in without(table)
    seen, built = rows(HV | STARDIST)
    built["decoder_only@mini,instances=stardist"].runs.pop(0)
    built["cellvta@mini,instances=stardist"].runs.pop(1)
    assert "stardist: its arms have no split and seed in common" in without(table_of(seen, built))


def test_of_several_rows_the_one_that_the_experiment_names_counts():
    seen, built = rows(HV | STARDIST | FLOWS)
    both = built | {"twin": Row(TUNED, ("", ""), built["cellvta@mini"].runs, "cellvta@mini")}
    table = table_of(seen, both)
    why = "hv stands in 2 rows of cellvta and none is named: name EXPERIMENT=representations"
    assert without(table) == f"Not measured: {why}.", "said once"
    assert table.blocks[0].rows[1] == ["hv"] + ["–"] * 7 and len(table.blocks) == 2, "gains alone"
    assert [("gain" in record) for record in by_name(table).values()] == [False, True, True]
    named = table_of(seen, both, asked=["cellvta@mini"])
    assert not without(named) and by_name(named)["hv"]["a"] == "cellvta@mini"
    assert "2 rows of cellvta that the experiment names" in without(table_of(seen, both, asked=["cellvta@mini", TUNED]))


def test_a_trial_never_stands_in_for_the_row_that_the_experiment_names():
    seen, built = rows(HV | STARDIST)
    asked = "cellvta@mini,instances=stardist,recipe.optimiser.lr=0.002"
    built["asked"] = Row(asked, ("", ""), [], asked)
    table = table_of(seen, built, asked=[asked])
    assert f"stardist: {asked}, which the experiment names, has no run" in without(table)
    assert "gain" in by_name(table)["hv"] and "gain" not in by_name(table)["stardist"]


@pytest.mark.parametrize("differs", ["backbone", "file"])
def test_rows_of_another_encoder_are_not_held_against_each_other(differs):
    seen, built = rows(HV | STARDIST)

    def other(row: Row) -> None:
        row.backbone = ("tiny", "pretext") if differs == "backbone" else row.backbone
        for run in row.runs:
            run.config["backbone"] = {"file": "00ff"}

    other(built["cellvta@mini,instances=stardist"])
    table = table_of(seen, built)
    assert "stardist: its arms have different encoders" in without(table) and "gain" not in by_name(table)["stardist"]
    other(built["decoder_only@mini,instances=stardist"])
    table = table_of(seen, built)
    assert "stardist has another encoder than hv" in without(table)
    stardist = by_name(table)["stardist"]
    assert "gain" in stardist and "interaction" not in stardist, "within a representation the encoder is one"


def test_files_of_weights_are_compared_pair_by_pair():
    """An encoder that each split has for itself is no reason: a partial grid has files that the other lacks."""
    seen, built = rows(HV | STARDIST, splits=(1, 2), stardist=[(1, 0)])
    for row in built.values():
        for run in row.runs:
            run.config["backbone"] = {"file": f"of split {run.id.split}"}
    table = table_of(seen, built)
    assert not without(table) and "interaction" in by_name(table)["stardist"]


def test_a_metric_without_values_has_no_block():
    seen, built = rows(HV | STARDIST)
    for frame in seen.images.values():
        frame["mPQ"] = np.nan
    assert [block.title for block in table_of(seen, built).blocks] == ["bPQ", "bPQ, interaction"]


def test_without_two_representations_there_is_no_table():
    assert table_of(*rows(HV | {"cellvta@mini,instances=flows": 0.1})) is None


@pytest.mark.filterwarnings("error")
def test_the_figure_draws_what_the_table_has(tmp_path, monkeypatch):
    from benchmark.report.figures import representations

    figures, save = [], representations.save
    monkeypatch.setattr(representations, "save", lambda figure, *rest: figures.append(figure) or save(figure, *rest))
    table = table_of(*rows(HV | STARDIST | FLOWS))
    assert representations_figure(table.records, tmp_path)
    lines = read_csv(tmp_path / "representations.csv")
    assert len(lines) == 6 and (tmp_path / "representations.pdf").is_file()
    panels = figures[0].axes
    assert [axes.get_xlabel().split(" (")[0] for axes in panels] == ["Δ bPQ", "Δ mPQ"]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == [
        f"{name} (2 pairs)" for name in ("hv", "flows", "stardist")
    ]
    for axes, of_metric in zip(panels, (lines[:3], lines[3:])):
        dots = [x for one in axes.collections if isinstance(one, PathCollection) for x, _ in one.get_offsets().tolist()]
        ends = [end for one in axes.collections if isinstance(one, LineCollection) for end in one.get_segments()]
        expected = [float(line[key]) for key in ("gain", "interaction") for line in of_metric if line[key]]
        assert len(expected) == 5 and dots == pytest.approx(expected)
        lows = [float(line[key]) for key in ("low", "interaction_low") for line in of_metric if line[key]]
        assert [end[0][0] for end in ends] == pytest.approx(lows), "the intervals of the table"


def test_no_figure_without_a_gain(tmp_path):
    assert not representations_figure([], tmp_path) and not list(tmp_path.iterdir())
    seen, built = rows(HV | STARDIST)
    built |= {spec + "'": Row(f"{spec},recipe.clip=2", ("", ""), row.runs, spec) for spec, row in built.items()}
    table = table_of(seen, built)
    assert "hv stands in 2 rows" in without(table) and "stardist stands in 2 rows" in without(table)
    assert not representations_figure(table.records, tmp_path)


def test_the_page_has_the_figure_and_draws_the_named_rows_of_many(tmp_path):
    """Beside a search for the learning rate, whose rows are more than a figure can tell apart."""
    squares().save(tmp_path / "records")
    searched = [f"{arm}@mini,recipe.optimiser.lr={k}" for arm in ("cellvta", "decoder_only") for k in range(1, 8)]
    asked = [f"{spec},recipe.optimiser.lr=9" for spec in (HV | STARDIST)]
    assert len(searched) > MOST >= len(asked)
    for k, method in enumerate([*searched, *asked]):
        settings = {"recipe.optimiser.lr": int(method.rpartition("=")[2])}
        spec = method.partition(",recipe")[0]
        make_run(tmp_path / "results", tmp_path / "records", method, bpq=0.3 + k / 100, settings=settings, spec=spec)
    build(tmp_path / "results", tmp_path / "reports", tmp_path / "cache", experiment_methods=asked)
    folder = tmp_path / "reports/synthetic/main-mini"
    assert {line["method"] for line in read_csv(folder / "accuracy.csv")} == set(asked)
    table, page = read_csv(folder / "representations.csv"), (tmp_path / "reports/index.html").read_text()
    assert [line["representation"] for line in table] == ["hv", "stardist"] * 2
    assert (folder / "representations.png").is_file() and "representations.pdf" in page
    assert "with each instance representation" in page
    assert "leave out 14 rows that the experiment does not name" in page

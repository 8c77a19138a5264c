"""The adapter's gain by representation: planted gains and interactions are found, other rows take no part."""

import numpy as np
import pandas as pd
import pytest

from benchmark.report.select.groups import Group, Row
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import difference_of_differences
from benchmark.report.tables.representations import representation_table
from tests.support.report_runs import Stub

CLUSTERS = 40


def rows(shifts: dict[str, float], seeds=(0, 1)) -> tuple[Observed, dict[str, Row]]:
    """A row of each specification, better than noise by its shift; the noise of an image is shared by all rows."""
    frames, built = {}, {}
    for spec, shift in shifts.items():
        runs = []
        for seed in seeds:
            rng = np.random.Generator(np.random.PCG64(seed))
            own = np.random.Generator(np.random.PCG64([seed, len(built)])).normal(0, 0.002, CLUSTERS)
            values = rng.normal(0.5, 0.1, CLUSTERS) + shift + own
            folder = f"{spec}-{seed}"
            frames[folder] = pd.DataFrame({"bPQ": values, "mPQ": values, "cluster": np.arange(CLUSTERS), "tissue": ""})
            runs.append(Stub(folder, 1, seed))
        built[spec] = Row(spec, ("", ""), runs, spec)
    return Observed([f"s{i:02}" for i in range(CLUSTERS)], True, frames), built


def group(built: dict[str, Row], asked=()) -> Group:
    return Group("synthetic", "main", "mini", [1], [0, 1], list(built.values()), asked=list(asked))


def test_gains_and_interactions_are_found():
    shifts = {"cellvta@mini": 0.05, "decoder_only@mini": 0.02}
    shifts |= {"cellvta@mini,instances=stardist": 0.06, "decoder_only@mini,instances=stardist": 0.06}
    shifts |= {"cellvta@mini,instances=flows": 0.09}  # without its other arm
    shifts |= {"cellvta@mini,instances=flows,points=8": 0.09, "full_finetune@mini,instances=stardist": 0.2}
    seen, built = rows(shifts)
    table = representation_table(group(built), seen, "caption", [])
    assert [block.title for block in table.blocks] == ["bPQ", "mPQ"]
    assert [line[0] for line in table.blocks[0].rows] == ["representation", "hv", "stardist"]
    hv, stardist = table.records[:2]
    assert hv["gain"] == pytest.approx(0.03, abs=2e-3) and hv["low"] < hv["gain"] < hv["high"]
    assert "interaction" not in hv and table.blocks[0].rows[1][-1] == "–"
    assert stardist["gain"] == pytest.approx(0.0, abs=2e-3)
    assert stardist["interaction"] == pytest.approx(-0.03, abs=2e-3)
    assert stardist["interaction_low"] < stardist["interaction"] < stardist["interaction_high"] < 0


def test_the_interaction_is_the_difference_of_the_gains_over_common_runs():
    names = ("cellvta@mini", "decoder_only@mini", "cellvta@mini,instances=cpp", "decoder_only@mini,instances=cpp")
    seen, built = rows(dict(zip(names, (0.04, 0.01, 0.03, 0.02))))
    built[names[2]].runs.pop()  # seed 1 of one arm alone is absent
    a, b, c, d = (built[name] for name in names)
    gap = difference_of_differences(seen, (c, d), (a, b), "bPQ")
    means = [seen.images[f"{name}-0"]["bPQ"].mean() for name in names]
    assert gap.value == pytest.approx(means[2] - means[3] - means[0] + means[1])
    built[names[2]].runs.clear()
    assert difference_of_differences(seen, (c, d), (a, b), "bPQ") is None


def test_of_several_learning_rates_the_experiment_s_counts():
    shifts = {"cellvta@mini": 0.05, "decoder_only@mini": 0.02}
    shifts |= {"cellvta@mini,instances=flows": 0.06, "decoder_only@mini,instances=flows": 0.05}
    seen, built = rows(shifts)
    twin = Row("cellvta@mini,recipe.optimiser.lr=0.004", ("", ""), built["cellvta@mini"].runs, "cellvta@mini")
    both = built | {"twin": twin}
    assert representation_table(group(both), seen, "caption", []) is None, "hv has two rows, one representation is left"
    named = representation_table(group(both, asked=["cellvta@mini"]), seen, "caption", [])
    assert [record["representation"] for record in named.records[:2]] == ["hv", "flows"]


def test_without_two_representations_there_is_no_table():
    seen, built = rows({"cellvta@mini": 0.05, "decoder_only@mini": 0.02, "cellvta@mini,instances=flows": 0.1})
    assert representation_table(group(built), seen, "caption", []) is None

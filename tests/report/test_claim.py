"""The questions of docs/claim.md: planted gains are found, shared test folds count once, all splits must agree."""

import math

import numpy as np
import pandas as pd
import pytest

from benchmark.metrics.match import match
from benchmark.metrics.records import Records
from benchmark.report.select.groups import Group, Row
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import weights
from benchmark.report.stats.claim import FAMILY, Question, answers
from benchmark.report.tables import claim
from benchmark.report.tables.claim import claim_table
from tests.support.report_runs import Stub

CLUSTERS, SPLITS, SEEDS = 40, (1, 2, 3), (0, 1, 2)


def arms(gain, noise=0.0, splits=SPLITS, seeds=SEEDS) -> tuple[Observed, Row, Row]:
    """Rows "a" and "b"; a is better by gain(split, seed) in every image. Splits 1 and 2 test the same 40 slides."""
    frames, rows = {}, {"a": [], "b": []}
    for split in splits:
        slides = np.arange(CLUSTERS) + (CLUSTERS if split == 3 else 0)
        for seed in seeds:
            rng = np.random.Generator(np.random.PCG64([split, seed]))
            base = rng.normal(0.5, 0.1, CLUSTERS)
            for name, shift in (("b", 0.0), ("a", gain(split, seed))):
                folder = f"{name}{split}{seed}"
                values = base + shift + rng.normal(0, noise, CLUSTERS)
                frames[folder] = pd.DataFrame({"bPQ": values, "cluster": slides, "tissue": ""})
                rows[name].append(Stub(folder, split, seed))
    seen = Observed([f"s{i:02}" for i in range(2 * CLUSTERS)], True, frames)
    return seen, *(Row(f"{name}@mini", ("", ""), runs, name) for name, runs in rows.items())


def ask(seen, a, b, asked="bPQ", expected=1):
    (answer,) = answers(seen, [(Question("a", "b", asked), a, b)], expected)
    return answer


def test_a_planted_gain_is_found_pair_by_pair():
    answer = ask(*arms(lambda split, seed: 0.03 + 0.01 * split + 0.002 * seed, noise=0.002))
    assert answer.value == pytest.approx(0.03 + 0.02 + 0.002, abs=2e-3)
    assert len(answer.pairs) == 9 and answer.pairs[3, 2] == pytest.approx(0.064, abs=3e-3)
    assert list(answer.of_splits) == [1, 2, 3] and answer.of_splits[1] == pytest.approx(0.042, abs=2e-3)
    assert answer.sd_of_seeds == pytest.approx(0.002, abs=1e-3), "over the seeds of a split, not over splits"
    assert answer.clusters == 2 * CLUSTERS, "the test fold of splits 1 and 2 counts once"
    assert answer.low < answer.value < answer.high and answer.verdict == "better"


def test_a_slide_is_drawn_once_for_all_splits_that_test_it():
    seen, a, b = arms(lambda split, seed: 0.0, noise=0.02, splits=(1, 2), seeds=(0,))
    answer = ask(seen, a, b)
    frames = seen.images
    drawn = weights(len(seen.clusters))[:, :CLUSTERS]
    each = [frames[f"a{k}0"]["bPQ"].to_numpy() - frames[f"b{k}0"]["bPQ"].to_numpy() for k in (1, 2)]
    by_hand = np.mean([(drawn @ delta) / drawn.sum(1) for delta in each], 0)
    low, high = np.quantile(by_hand, [FAMILY / 12, 1 - FAMILY / 12])
    assert (answer.low, answer.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (lambda split, seed: 0.05, "better"),
        (lambda split, seed: -0.05, "worse"),
        (lambda split, seed: 0.001, "no difference"),
        (lambda split, seed: 0.009, "undecided"),  # the interval reaches over the smallest effect
        (lambda split, seed: {1: 0.2, 2: 0.2, 3: -0.01}[split], "undecided"),  # the splits do not agree
    ],
)
def test_what_may_be_said(gain, verdict):
    assert ask(*arms(gain, noise=0.01)).verdict == verdict


def test_nothing_is_said_before_all_splits_and_all_pairs_were_run():
    for splits in ((1,), (1, 2)):
        answer = ask(*arms(lambda split, seed: 0.05, noise=0.01, splits=splits))
        assert answer.low > 0.03 and answer.verdict == ""
    seen, a, b = arms(lambda split, seed: 0.05, noise=0.01)
    assert ask(seen, a, b, expected=9).verdict == "better"
    few = Row(b.method, b.backbone, [run for run in b.runs if (run.id.split, run.id.seed) != (3, 1)], "b")
    answer = ask(seen, a, few, expected=9)
    assert len(answer.pairs) == 8 and answer.low > 0.03 and answer.verdict == ""
    assert ask(seen, a, few, expected=8).verdict == "better"


def test_six_intervals_hold_together_whichever_questions_can_be_answered():
    """Of true differences at the smallest effect, an interval beyond it is wrong: seldom for any of six."""
    seen, a, b = arms(lambda split, seed: 0.02, noise=0.02)
    alone = ask(seen, a, b)
    many = answers(seen, [(Question("a", "b", "bPQ"), a, b)] * 6, 9)
    assert {(one.low, one.high) for one in many} == {(alone.low, alone.high)}, "of equal questions equal intervals"
    inside = np.mean([(alone.low < value) & (value < alone.high) for value in means_of_resamples(seen, a, b)])
    assert inside == pytest.approx(1 - FAMILY / 6, abs=1e-3)


def means_of_resamples(seen, a, b) -> np.ndarray:
    drawn = weights(len(seen.clusters))
    out = []
    for one, other in zip(a.runs, b.runs):
        frame, rival = seen.images[one.folder], seen.images[other.folder]
        own = drawn[:, frame["cluster"]]
        out.append(own @ (frame["bPQ"] - rival["bPQ"]).to_numpy() / own.sum(1))
    return np.mean(out, 0)


def test_an_interval_over_seeds_too_shows_how_trainings_differ_and_decides_nothing():
    seen, a, b = arms(lambda split, seed: 0.04 * seed, noise=0.005)  # 0, 0.04, 0.08: on average 0.04
    answer = ask(seen, a, b)
    low, high = answer.with_seeds
    assert answer.verdict == "better" and answer.high - answer.low < 0.02
    # a mean of 3 x 3 draws among 0, 0.04, 0.08: standard deviation 0.0327 / 3, and 2.64 of them at this level
    assert high - low == pytest.approx(2 * 2.64 * 0.0327 / 3, rel=0.15) and low < 0.04 < high
    assert claim._line(answer, 9)[3] == f"[{low:+.3f}, {high:+.3f}]" and claim._line(answer, 9)[-1] == "better"
    assert claim._with_seeds(answer, 9) == "", "the same would be said"


def test_a_verdict_that_other_seeds_could_turn_is_named():
    answer = ask(*arms(lambda split, seed: [0.2, 0.0, -0.05][seed], noise=0.005))
    assert answer.verdict == "better" and claim._with_seeds(answer, 9) == "a − b in bPQ would be undecided"
    group = Group("s", "main", "mini", [*SPLITS], [*SEEDS], [])
    notes = claim._reading(group, Observed([], True, {}), [answer], 9)
    assert "†: with the seeds resampled too a − b in bPQ would be undecided." in notes
    assert claim._line(answer, 9)[-1] == "better †"
    whole = claim._record(group, answer, None)
    assert whole["low_with_seeds"] < 0.01 < whole["low"]


def test_one_seed_a_split_shows_nothing_of_other_seeds():
    answer = ask(*arms(lambda split, seed: 0.05, noise=0.01, seeds=(0,)))
    assert np.isnan(answer.with_seeds).all() and answer.low > 0


def test_few_clusters_say_nothing():
    seen, a, b = arms(lambda split, seed: 0.05)
    few = Observed(seen.clusters, True, {k: frame.iloc[:2] for k, frame in seen.images.items()})
    assert math.isnan(ask(few, a, b).low) and ask(few, a, b).verdict == ""


class Recorded(Stub):
    """A run with records: squares of 8 and 40 px, 2 and 10 µm wide; of the small ones `found` of 8 are predicted."""

    def __init__(self, folder, found: int, split=1, seed=0):
        super().__init__(folder, split, seed)
        self.found = found

    def records(self) -> Records:
        matches = []
        for image in range(12):
            true, pred = np.zeros((2, 256, 256), np.int32)
            for n in range(16):
                side, column = (8, n) if n < 8 else (28, n - 8)
                y, x = (4 if n < 8 else 100), 2 + 31 * column
                true[y : y + side, x : x + side] = n + 1
                if n >= 8 or (n + image) % 8 < self.found:
                    pred[y : y + side, x : x + side] = n + 1
            ones = [np.ones(len(np.unique(m)) - 1, int) for m in (true, pred)]
            matches.append(match(true, ones[0], pred, ones[1], mpp=0.25))
        return Records.collect(matches, [{"image": i, "image_id": str(i), "source": f"s{i}"} for i in range(12)])


def row_of(method: str, runs: list, weights=("", "")) -> Row:
    name = method.partition("@")[0]
    return Row(method, weights, runs, name, name)


def recorded(found: dict[str, int]) -> tuple[Observed, dict[str, Row]]:
    runs = {name: [Recorded(f"{name}{k}", count, k) for k in SPLITS] for name, count in found.items()}
    frame = pd.DataFrame({"bPQ": 0.5, "mPQ": 0.4, "cluster": np.arange(12), "tissue": ""})
    frames = {run.folder: frame for own in runs.values() for run in own}
    rows = {name: row_of(f"{name}@mini", own) for name, own in runs.items()}
    return Observed([f"s{i}" for i in range(12)], True, frames), rows


def test_a_gain_for_small_nuclei_alone_is_an_interaction_with_size():
    seen, rows = recorded({"cellvta": 8, "decoder_only": 4})
    size = ask(seen, rows["cellvta"], rows["decoder_only"], "size")
    # all small nuclei are hits of the one (PQ 1) and half of them of the other (PQ 4 / (4 + 4 / 2))
    assert size.value == pytest.approx(1 - 4 / 6) and size.verdict == "better"


def test_a_question_without_nuclei_in_one_group_says_why():
    seen, rows = recorded({"cellvta": 8, "decoder_only": 4})
    answer = ask(seen, rows["cellvta"], rows["decoder_only"], "crowding")
    assert math.isnan(answer.value) and answer.verdict == "" and not answer.pairs, "no nucleus touches another"
    assert answer.why == "split 1, seed 0 has nothing that this is measured on"


def test_the_table_has_a_line_a_question_and_a_csv_line_a_pair():
    seen, rows = recorded({"cellvta": 8, "decoder_only": 4, "full_finetune": 6})
    group = Group("synthetic", "main", "mini", list(SPLITS), [0], list(rows.values()))
    table = claim_table(group, seen, "caption", ["note"])
    lines = table.blocks[0].rows
    assert [line[0] for line in lines[1:]] == [
        "cellvta − decoder_only in bPQ",
        "cellvta − decoder_only in mPQ",
        "cellvta − full_finetune in bPQ",
        "cellvta − full_finetune in mPQ",
        "gain over decoder_only, nuclei < 6 µm less those ≥ 6 µm (PQ)",
        "gain over decoder_only, touching nuclei less free ones (PQ)",
    ]
    assert [line[-1] for line in lines[1:]] == ["no difference"] * 4 + ["better", "–"]
    assert [line[7] for line in lines[1:]] == ["3/3"] * 5 + ["0/3"] and [line[9] for line in lines[1:]][4:] == [
        "12",
        "–",
    ]
    assert table.notes[2].startswith(
        "Not measured: gain over decoder_only, touching nuclei less free ones (PQ) (split 1"
    )
    assert "docs/claim.md" not in " ".join(table.notes), "another data set was never registered"
    pairs = [record for record in table.records if "fold" in record]
    assert len(pairs) == 5 * len(SPLITS) and pairs[-1]["difference"] == pytest.approx(1 - 4 / 6)


def test_a_registered_data_set_waits_for_the_registered_pairs_and_an_absent_arm_is_said():
    seen, rows = recorded({"cellvta": 8, "decoder_only": 4})
    group = Group("synthetic@patches=168", "main", "mini", list(SPLITS), [0], list(rows.values()))
    table = claim_table(group, seen, "caption", [])
    assert [line[7] for line in table.blocks[0].rows[1:]] == ["3/9", "3/9", "0/9", "0/9", "3/9", "0/9"]
    assert {line[-1] for line in table.blocks[0].rows[1:]} == {"–"} and "docs/claim.md" in table.notes[1]
    assert "in mPQ (no single row of full_finetune has records)" in table.notes[2]
    whole = [record for record in table.records if "fold" not in record]
    assert len(whole) == 6 and sum(bool(record["not_measured"]) for record in whole) == 3


def test_no_table_where_an_arm_is_missing_or_stands_in_two_rows():
    seen, rows = recorded({"cellvta": 8, "hovernet": 4})
    assert claim_table(Group("synthetic", "main", "mini", [1], [0], list(rows.values())), seen, "", []) is None
    seen, rows = recorded({"cellvta": 8, "decoder_only": 4})
    twice = [*rows.values(), row_of("cellvta@mini,recipe.optimiser.lr=0.004", rows["cellvta"].runs)]
    group = Group("synthetic", "main", "mini", [1], [0], twice)
    assert claim_table(group, seen, "", []) is None
    group.asked = ["cellvta@mini,recipe.optimiser.lr=0.004", "decoder_only@mini"]
    assert claim_table(group, seen, "", []) is not None, "the experiment names one of them"

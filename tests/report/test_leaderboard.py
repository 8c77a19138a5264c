"""The leaderboard's rows: ranks that follow from paired differences, intervals, cost, published figures."""

import numpy as np
import pandas as pd
import pytest

from benchmark.report.build import TOPICS, topics
from benchmark.report.page.section import Figure
from benchmark.report.render.table import Table
from benchmark.report.select.groups import Row, groups
from benchmark.report.select.observations import Observed
from benchmark.report.select.store import Store
from benchmark.report.sentences import summary
from benchmark.report.tables.leaderboard import PUBLISHED, leaderboard, ranks
from benchmark.report.write import group_tables
from benchmark.results import collect
from tests.support.chromium import panel
from tests.support.report_runs import Stub, make_run, squares


def observed_of(scores: dict[str, np.ndarray]) -> tuple[list[Row], Observed]:
    """Rows of one run each with these scores of 20 images, each a source of its own."""
    rows, images = [], {}
    for label, values in scores.items():
        rows.append(Row(f"{label}@small", ("", ""), [Stub(label)], label))
        images[label] = pd.DataFrame({"bPQ": values, "cluster": np.arange(len(values))})
    return rows, Observed([str(k) for k in range(len(values))], True, images)


def test_ranks_follow_paired_differences():
    """`better` is above `plain` in every image by as much, though the images differ by far more than that."""
    rng = np.random.default_rng(0)
    plain = rng.uniform(0.2, 0.8, 20)
    noise = rng.normal(0, 0.1, 20)
    noisy = plain + 0.01 + noise - noise.mean()
    rows, observed = observed_of({"plain": plain, "better": plain + 0.02, "noisy": noisy, "low": plain - 0.15})
    means = [frame["bPQ"].mean() for frame in observed.images.values()]
    assert means[1] > means[2] > means[0] > means[3]
    assert ranks(rows, observed, means) == [2, 1, 1, 4], "nothing tells the noisy one apart from the best"


def test_no_row_stands_behind_a_lower_figure():
    """The noisy row is lowest and told apart from none, so that nothing above it is said to be worse than first."""
    plain = np.linspace(0.4, 0.6, 20)
    noisy = plain - 0.05 + np.tile([0.3, -0.3], 10)
    rows, observed = observed_of({"best": plain + 0.02, "second": plain, "noisy": noisy})
    assert ranks(rows, observed, [0.52, 0.50, 0.45]) == [1, 1, 1]


def test_equal_printed_figures_share_a_rank():
    plain = np.linspace(0.4, 0.6, 20)
    rows, observed = observed_of({"a": plain + 0.0002, "b": plain, "c": plain - 0.1})
    assert ranks(rows, observed, [0.5002, 0.5, 0.4]) == [1, 1, 3], "both print 0.500, though one is above everywhere"
    assert ranks(rows, observed, [0.5012, 0.5, 0.4]) == [1, 2, 3]


def test_without_intervals_nothing_is_told_apart():
    rows, observed = observed_of({"a": np.full(4, 0.9), "b": np.full(4, 0.1)})
    assert ranks(rows, observed, [0.9, 0.1]) == [1, 1]
    assert ranks(rows, observed, [0.9, float("nan")]) == [1, None]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    squares().save(folder)
    return folder


def board_of(results, dataset):
    (group,) = groups(collect.runs(results), dataset)
    tabled = group_tables(group, ["cellvit"], Store())
    named = {table.name: table for table in tabled.rest}
    published = named.get("published-cellvit")
    return leaderboard(group, tabled.main[0], named["cost"], published, tabled.observed), group, tabled


def test_rows_have_scores_cost_and_what_they_train(tmp_path, stored):
    make_run(tmp_path, stored, "cellvta@small", arguments={"tune": "adapter"})
    make_run(tmp_path, stored, "classical@small", bpq=0.25, cost={"trainable": 0, "params": 0})
    board, *_ = board_of(tmp_path, "synthetic")
    first, second = board.rows
    assert first["cells"]["bPQ"][:2] == ["0.500", 0.5] and second["cells"]["bPQ"][0] == "0.250"
    assert [row["facets"]["tuned"] for row in board.rows] == ["adapter", "nothing"]
    assert first["cells"]["trainable"] == ["0.25", 0.25] and first["cells"]["runs"] == ["1/1", 1]
    assert first["cells"]["F1_Neoplastic"][0] == "0.400" and "settings" not in [c.key for c in board.columns]
    shown = [column.key for column in board.columns if column.shown]
    assert shown == ["method", "rank", "tuned", "bPQ", "mPQ", "F1", "trainable", "images_per_second"]


def test_published_rows_are_joined_with_the_difference(tmp_path, stored):
    for fold, count in ((1, 2722), (2, 2722), (3, 2656)):
        folder = make_run(tmp_path, stored, "cellvta@paper", fold, bpq=0.7, dataset="pannuke", kind="published")
        text = (folder / "metrics.json").read_text().replace('"n_images": 2', f'"n_images": {count}')
        (folder / "metrics.json").write_text(text)
    board, *_ = board_of(tmp_path, "pannuke")
    assert (
        len(board.rows) > 5 and [row["facets"]["origin"] for row in board.rows].count(PUBLISHED) == len(board.rows) - 1
    )
    (row,) = (row for row in board.rows[1:] if row["cells"]["method"] == ["cellvta@paper"])
    value = row["cells"]["bPQ"][1]
    assert row["cells"]["ours"] == [f"{0.7 - value:+.3f}", pytest.approx(0.7 - value)] and "rank" not in row["cells"]
    assert not any("ours" in row["cells"] for row in board.rows if row["cells"]["method"] != ["cellvta@paper"])


def test_the_answer_is_one_sentence_and_three(tmp_path, stored):
    for method in ("cellvta@small", "decoder_only@small", "hovernet@small"):
        for fold in (1, 2):
            make_run(tmp_path, stored, method, fold)
    _, group, tabled = board_of(tmp_path, "synthetic")
    sentences = summary(group, "cellvit", tabled.observed, tabled.scores, [], "Nothing holds.")
    assert sentences.compared.startswith(
        "3 methods on synthetic, matched recipe (`main`), preset `small`: 2 folds (1, 2)"
    )
    assert len(sentences.finding) <= 3 and "Highest mean bPQ" in sentences.finding[-1]
    assert any("No pictures" in sentence for sentence in sentences.limits)
    truth = np.kron(np.eye(2, dtype=np.int32), np.ones((4, 4), np.int32))
    seen = [panel("image", truth, {"cellvta": [1], "hovernet": []})]
    limits = summary(group, "cellvit", tabled.observed, tabled.scores, seen).limits
    (sentence,) = [sentence for sentence in limits if "outlines" in sentence]
    assert sentence.startswith(
        "No outlines of decoder_only in the images: no predictions of fold 1, seed 0 can be read"
    )
    group.rows = [row for row in group.rows if not row.method.startswith("decoder_only")]
    finding = summary(group, "cellvit", tabled.observed, tabled.scores, [], "Nothing holds.").finding
    assert finding[0] == "Nothing holds.", "without the claim's pair, what the paired comparisons say"


def test_every_table_and_figure_has_one_topic(tmp_path):
    names = ["main-cellvit", "main-clean", "cost", "sizes", "tissues-cellvit", "significance", "runs", "new"]
    stems = [stem for _, stems in TOPICS.values() for stem in stems]
    figures = {stem: Figure(tmp_path / stem, stem) for stem in ("accuracy", "gain", *stems, "novel")}
    parts = topics([Table(name, name) for name in names], figures)
    assert sorted(table.name for part in parts for table in part.tables) == sorted(names)
    assert [figure.stem.name for part in parts for figure in part.figures] == [*stems, "novel"]
    assert parts[-1].title == "More" and [table.name for table in parts[-1].tables] == ["new"]

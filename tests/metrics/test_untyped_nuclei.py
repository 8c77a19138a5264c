"""What each protocol does with nuclei without a type in an image that has types: the table of docs/metrics.md by hand.

A scheme that drops a class (`consep@classes=pannuke`) leaves such nuclei in the truth.
"""

import pytest

from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from tests.support.label_maps import squares

TRUE = squares((2, 2, 8, 8), (2, 20, 8, 8), (20, 2, 8, 8))  # two of the one class, the third without a type
TWO = squares((2, 2, 8, 8), (2, 20, 8, 8))
PUBLISHED, OTHERS = ("cellvit", "cellvta_conic"), ("conic", "hovernet", "clean")
MISSED = 2 / 2.5  # PQ of two pairs and one nucleus too few or too many


def summary(protocol: str, pred, types) -> dict[str, float]:
    meta = {"image": 0, "typed": True, "pred_typed": True, "tissue": "Colon"}
    records = Records.collect([match(TRUE, [1, 1, 0], pred, types, mpp=0.25)], [meta])
    return PROTOCOLS[protocol].summary(records, ["a"], ["Colon"])


def near(*values):
    return pytest.approx(values, abs=1e-5)


def test_binary_pq_of_a_nucleus_that_is_found_with_without_a_type_and_not():
    """bPQ: `pannuke` has no such true nucleus, `cellvit` and `cellvta_conic` no such prediction, the others both."""
    ways = ((TRUE, [1, 1, 1]), (TRUE, [1, 1, 0]), (TWO, [1, 1]))
    bpq = {name: [summary(name, *way)["bPQ"] for way in ways] for name in PROTOCOLS}
    assert bpq.pop("pannuke") == near(MISSED, 1, 1)
    for name in PUBLISHED:
        assert bpq.pop(name) == near(1, MISSED, MISSED), name
    assert sorted(bpq) == sorted(OTHERS)
    for name, values in bpq.items():
        assert values == near(1, 1, MISSED), name


def test_they_are_a_class_0_of_mpq_as_published_and_of_no_other():
    """mPQ where the nucleus is given a type, none, and not found: PQ of the one class, and of class 0 in its mean."""
    ways = ((TRUE, [1, 1, 1]), (TRUE, [1, 1, 0]), (TWO, [1, 1]))
    for name in PUBLISHED:
        assert [summary(name, *way)["mPQ"] for way in ways] == near(MISSED / 2, 1, 1 / 2), name
        assert [summary(name, *way)["PQ_a"] for way in ways] == near(MISSED, 1, 1), name
    for name in ("pannuke", "conic", "clean"):
        for score in ("mPQ", "PQ_a"):
            assert [summary(name, *way)[score] for way in ways] == near(MISSED, 1, 1), (name, score)


def test_a_type_at_such_a_nucleus_is_a_false_positive_of_the_type():
    """Twice in the published per-type detection, as every confusion, once in `clean`; R2 counts one too many."""
    for name, precision in (("cellvit", 2 / 4), ("cellvta_conic", 2 / 4), ("hovernet", 2 / 4), ("clean", 2 / 3)):
        scores = summary(name, TRUE, [1, 1, 1])
        assert (scores["precision_a"], scores["recall_a"]) == near(precision, 1), name
        assert (scores["F1"], summary(name, TRUE, [1, 1, 0])["F1"]) == near(1, 1), name
        assert summary(name, TWO, [1, 1])["F1"] == pytest.approx(2 * 2 / (2 * 2 + 1)), name
    for name in ("hovernet", "clean"):  # pairs of equal type / pairs: without a type on both sides is equal
        accuracy = [summary(name, TRUE, types)["accuracy"] for types in ([1, 1, 1], [1, 1, 0])]
        assert accuracy == near(2 / 3, 1), name
    assert [summary("conic", TRUE, types)["R2"] for types in ([1, 1, 1], [1, 1, 0])] == [0, 1]

"""Runs in figures are called by what tells them apart."""

from benchmark.report.figures.names import distinct


def test_only_what_differs_is_named():
    a, b = "set cellvta@mini,lr=0.002 fold 3 seed 0", "set decoder_only@mini,lr=0.008 fold 3 seed 0"
    assert distinct([a, b]) == {a: "cellvta", b: "decoder_only"}
    other = "set cellvta@mini,lr=0.004 fold 3 seed 0"
    assert distinct([a, other]) == {a: "cellvta@mini,lr=0.002", other: "cellvta@mini,lr=0.004"}
    seeds = [f"set cellvta@mini fold {fold} seed {seed}" for fold, seed in ((1, 0), (2, 1))]
    assert list(distinct(seeds).values()) == ["fold 1 seed 0", "fold 2 seed 1"]
    imported = "set cellvta (imported) fold 3"
    assert distinct([a, imported]) == {a: a, imported: imported}, "nothing is compared word by word"
    assert distinct([a]) == {a: a}

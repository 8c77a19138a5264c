"""The plural stands only where there are several."""

import pytest

from benchmark.runtime.counts import counted, part_of


@pytest.mark.parametrize(("n", "words"), [(0, "0 slides"), (1, "1 slide"), (2, "2 slides")])
def test_counted(n, words):
    assert counted(n, "slide") == words


@pytest.mark.parametrize(
    ("n", "whole", "words"),
    [(1, 1, "1 of 1 slide is"), (1, 3, "1 of 3 slides is"), (2, 3, "2 of 3 slides are"), (0, 1, "0 of 1 slide are")],
)
def test_the_verb_follows_the_part_and_the_noun_the_whole(n, whole, words):
    assert part_of(n, whole, "slide") == words


def test_other_verbs():
    assert part_of(1, 2, "image", ("states", "state"), " (such as a.tif)") == "1 of 2 images (such as a.tif) states"

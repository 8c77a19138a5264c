"""docs/datasets: a page for each set of whole fields, the schemes that there are, the validation images of CoNSeP."""

import re

from benchmark.data import facts
from benchmark.data.registry import DATASETS, dataset_names
from benchmark.data.sources import class_map
from benchmark.data.sources.fields import Fields
from benchmark.data.sources.patients import held_out
from benchmark.runtime.paths import ROOT

PAGES = ROOT / "docs/datasets"
OVERVIEW = (PAGES / "README.md").read_text(encoding="utf-8")


def test_each_set_of_fields_has_a_page_that_says_where_it_comes_from():
    for name in dataset_names():
        if issubclass(DATASETS.get(name), Fields):
            page = " ".join((PAGES / f"{name}.md").read_text(encoding="utf-8").split())
            known = facts.of(name)
            assert known.home in page and f"{name}.md" in OVERVIEW
            assert known.licence_name in page and all(str(n) in page for n in known.images.values()), name
            assert f"{DATASETS.get(name).mpp:g} µm per pixel" in page


def test_the_schemes_are_those_that_there_are():
    listed = re.findall(r"^\| `(\w+)@classes=(\w+)` \|", OVERVIEW, re.MULTILINE)
    assert sorted(listed) == sorted((name, word) for name in dataset_names() for word in class_map.known(name))


def test_the_validation_images_of_consep():
    page = " ".join((PAGES / "consep.md").read_text(encoding="utf-8").split())
    *others, last = held_out(f"train_{k}" for k in range(1, 28))
    listed = re.search(r"Validation is on ((?:train_\d+[, and]*)+)", page)
    assert sorted(re.findall(r"train_\d+", listed[1])) == sorted([*others, last])

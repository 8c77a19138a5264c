"""docs/datasets: a page for each set of whole fields, the schemes that there are, the validation images of CoNSeP."""

import re

from benchmark.data import facts
from benchmark.data.registry import DATASETS, dataset_names
from benchmark.data.sources import class_map
from benchmark.data.sources.fields import Fields
from benchmark.data.sources.patients import held_out
from benchmark.runtime.paths import ROOT

KUMAR = (
    "18-5592 21-5784 21-5786 38-6178 49-4488 50-5931 A7-A13E A7-A13F AR-A1AK AR-A1AS AY-A8YK B0-5698 B0-5710 B0-5711 "
    "CH-5767 DK-A2I6 E2-A14V E2-A1B5 G2-A2EK G9-6336 G9-6348 G9-6356 G9-6362 G9-6363 HE-7128 HE-7129 HE-7130 KB-A93J "
    "NH-A8F7 RD-A8N9"
)  # the 30 patients of Kumar et al. 2017, all in MoNuSeg's training part
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


def test_the_validation_patients_of_monuseg():
    page = " ".join((PAGES / "monuseg.md").read_text(encoding="utf-8").split())
    patient = r"(?:TCGA-\w{2}-\w{4}(?:, )?)+"
    added = re.search(rf"the 30 of Kumar 2017 and ({patient})\.", page)[1].split(", ")
    listed = re.search(rf"Validation is on ({patient});", page)[1].split(", ")
    patients = [*(f"TCGA-{name}" for name in KUMAR.split()), *added]
    assert len(set(patients)) == facts.of("monuseg").images["train"]
    assert listed == held_out(patients)

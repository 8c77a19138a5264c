"""`datasets`: every data set that can be read, what is known of it, what of it is prepared here; without torch."""

import csv
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.data import facts
from benchmark.data.registry import DATASETS, dataset_names
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from tests.support import field_files


def rows(capsys, *words) -> dict[str, dict]:
    assert main(["datasets", "--format", "csv", *map(str, words)]) == 0
    return {row["dataset"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}


def test_lists_every_registered_data_set_with_its_facts(tmp_path, capsys):
    seen = rows(capsys, "--cache", tmp_path)
    assert set(seen) == {*dataset_names()} and set(facts.names()) <= set(seen)
    for name in facts.names():
        assert seen[name]["licence"] and seen[name]["home"] and seen[name]["citation"]
    assert seen["consep"]["images"] == "27 + 14" and seen["consep"]["schemes"] == "4, pannuke"
    assert seen["folder"]["licence"] == "yours"


assert dataset_names()  # which registers them


@pytest.mark.parametrize("name", facts.names())
def test_facts_agree_with_the_reader(name):
    known = facts.of(name)
    cls = DATASETS.get(name)
    assert known.mpp == cls.mpp and (known.types is None or known.types == len(cls.classes))


def test_says_what_is_prepared(tmp_path, capsys):
    root = field_files.consep(tmp_path / "d")
    words = ["prepare", "--dataset", "consep", "--data-root", str(root), "--cache", str(tmp_path / "c")]
    assert main(words) == 0
    n = sum(int(field_files.field(k)[1].max()) for k in (1, 2, 3, 4, 5, 101, 102, 103))
    capsys.readouterr()
    assert rows(capsys, "--cache", tmp_path / "c")["consep"]["prepared here"] == f"2 folds, 8 images, {n} nuclei"
    next((tmp_path / "c").glob("consep-fold1-*/meta.json")).write_text("{")
    assert rows(capsys, "--cache", tmp_path / "c")["consep"]["prepared here"].startswith("1 fold, 3 images, ")


def test_schemes_and_versions_of_one_set_are_told_apart(tmp_path, capsys):
    """A scheme's folds are the same images again, and so may be those of other files: neither is more of the set."""
    root = field_files.consep(tmp_path / "d")

    def prepare(*words):
        all_of = ["prepare", "--dataset", "consep", "--data-root", str(root), "--cache", str(tmp_path / "c"), *words]
        assert main(all_of) == 0

    prepare()
    prepare("--classes", "4")
    image = root / "Test" / "Images" / "test_1.png"
    Image.fromarray(np.array(Image.open(image)) ^ 1).save(image)
    prepare()
    capsys.readouterr()
    seen = rows(capsys, "--cache", tmp_path / "c")["consep"]["prepared here"]
    own, scheme = seen.split("; ")
    assert own.startswith("3 folds, 11 images, ") and own.endswith(", of 2 versions of the files")
    assert scheme.startswith("classes=4: 2 folds, 8 images, ") and "versions" not in scheme


def test_the_table_names_licence_and_citation_and_needs_no_torch(tmp_path):
    code = "import sys; from benchmark.cli import main; sys.exit(main(sys.argv[1:]) or 9 * ('torch' in sys.modules))"
    words = [sys.executable, "-c", code, "datasets", "--cache", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "CC BY-NC-SA 4.0" in done.stdout and "- consep: CoNSeP, Graham et al." in done.stdout


def test_facts_are_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "FOLDER", tmp_path)
    (tmp_path / "a.toml").write_text('title = "A"\nlicence = "cc0"\n')
    (tmp_path / "b.toml").write_text('title = "A"\nlicence = "cc0"\nhome = "x"\nsize = 1\n')
    for name, key in (("a", "home"), ("b", "size")):
        with pytest.raises(InputError, match=f"see to '{key}'"):
            facts.of(name)

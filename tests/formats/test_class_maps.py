"""Files that name the type of each nucleus, scored with a map of names; types that count by number, which is said."""

import json

import numpy as np
import pytest

from tests.support.foreign_files import centres, corners, feature, labels, score

THEIRS = {1: "Tumour", 2: "Lymphocyte", 3: "Necrosis"}  # of the types Neoplastic, Inflammatory, Dead of `labels`
MAP = '[classes]\nTumour = "Neoplastic"\nlymphocyte = "Inflammatory"\nNecrosis = "Dead"\n'


@pytest.fixture
def files(tmp_path):
    """(ground truth as npz with numbers, the same nuclei as GeoJSON with other names)."""
    instances, types = labels()
    for side in ("t", "p"):
        (tmp_path / side).mkdir()
    np.savez(tmp_path / "t/a.npz", instances=instances, types=types)
    features = [feature([corners(instances, k)], THEIRS[int(types[instances == k][0])]) for k in (2, 7, 300)]
    (tmp_path / "p/a.geojson").write_text(json.dumps(features))
    (tmp_path / "classes.toml").write_text('classes = ["Neoplastic", "Inflammatory", "Dead"]\nmpp = 0.25\n')
    return tmp_path / "t", tmp_path / "p"


def called(tmp_path, files, content: str, *words) -> int:
    (tmp_path / "map.toml").write_text(content)
    return score(tmp_path, *files, "--classes", tmp_path / "map.toml", "--out", tmp_path / "out", *words)


def test_names_are_led_to_the_classes(tmp_path, files):
    assert called(tmp_path, files, MAP, "--types", tmp_path / "classes.toml") == 0
    stored = json.loads((tmp_path / "out/metrics.json").read_text())["pannuke"]
    assert stored["mPQ"] == pytest.approx(1) and stored["PQ_Dead"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (MAP.replace("Necrosis", "Necroses"), "names the type 'Necrosis', which"),
        (MAP.replace('"Dead"', '"Death"'), "Did you mean 'Dead'?"),
        (MAP, "nothing names its classes"),
    ],
)
def test_what_the_map_lacks_is_refused(tmp_path, files, capsys, content, says):
    words = () if says.startswith("nothing") else ("--types", tmp_path / "classes.toml")
    assert called(tmp_path, files, content, "--mpp", 0.25, *words) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_numbers_are_listed_too(tmp_path, files, capsys):
    instances, types = labels()
    (tmp_path / "p/a.geojson").unlink()
    np.savez(tmp_path / "p/a.npz", instances=instances, types=np.array([0, 7, 9, 8])[types])
    words = ("--types", tmp_path / "classes.toml")
    assert called(tmp_path, files, MAP, *words) == 2
    assert "holds the type 7, which" in capsys.readouterr().err
    numbers = '[classes]\n7 = "Neoplastic"\n9 = "Inflammatory"\n8 = "Dead"\n'
    assert called(tmp_path, files, numbers, *words) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["pannuke"]["mPQ"] == pytest.approx(1)


def test_types_that_a_file_names_but_that_count_by_number_are_said(tmp_path, files, capsys):
    instances, types = labels()
    (tmp_path / "p/a.geojson").unlink()
    cells = [{"contour": centres(instances, k), "type": int(types[instances == k][0])} for k in (2, 7, 300)]
    content = {"cells": cells, "type_map": {str(k): name for k, name in THEIRS.items()}}
    (tmp_path / "p/a.json").write_text(json.dumps(content))
    assert score(tmp_path, *files, "--mpp", 0.25) == 0
    said = "its types count by number, although it names them (1 = Tumour, 2 = Lymphocyte, 3 = Necrosis)"
    assert said in capsys.readouterr().err
    assert called(tmp_path, files, MAP, "--types", tmp_path / "classes.toml") == 0
    assert "count by number" not in capsys.readouterr().err

"""Files of outlines: what would be lost or misread without a word; formats of CellViT, TIAToolbox and QuPath."""

import gzip
import json
import zipfile

import numpy as np
import pytest

from benchmark.formats.collection import collection
from benchmark.formats.type_names import TypeNames
from benchmark.runtime.errors import InputError
from tests.support.foreign_files import NAMES, SHAPE, centres, corners, feature, labels, only, same, score
from tests.support.shared import shared

WHOLE = [[0, 0], [50, 0], [50, 40], [0, 40], [0, 0]]


def outlined(what: str = "annotation", outline=corners) -> list[dict]:
    instances, _ = labels()
    kinds = ((2, "Neoplastic"), (7, "Dead"), (300, "Inflammatory"))
    return [feature([outline(instances, k)], name, what=what) for k, name in kinds]


def geojson(path, features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def moved(one: dict, by: float) -> dict:
    (ring,) = one["geometry"]["coordinates"]
    return one | {"geometry": {"type": "Polygon", "coordinates": [[[x + by, y + by] for x, y in ring]]}}


@pytest.mark.parametrize("by", [20_000, -300])
def test_outlines_of_another_image_are_refused(tmp_path, capsys, by):
    np.save(tmp_path / "a.npy", labels()[0])
    for content in (outlined("detection"), outlined("annotation")):
        path = geojson(tmp_path / "a.geojson", [moved(one, by) for one in content])
        assert score(tmp_path, tmp_path / "a.npy", path, "--mpp", 0.25) == 2
        error = capsys.readouterr().err
        assert "all 3 outlines lie outside the image of 50 x 40 pixels" in error and "Subtract the offset" in error
        assert f"x {4 + by}..{44 + by}, y {3 + by}..{33 + by}" in error
    with pytest.raises(InputError, match="all 1 outlines lie outside"):
        (tmp_path / "b.json").write_text(json.dumps({"nuc": {"1": {"contour": [[90, 90], [95, 90], [95, 95]]}}}))
        only(tmp_path / "b.json")


def test_some_outlines_outside_are_counted(tmp_path, capsys):
    first, *others = outlined("detection")
    found = only(geojson(tmp_path / "a.geojson", [moved(first, 1000), *others]))
    assert len(np.unique(found.instances)) == 3 and "1 of 3 outlines hold no pixel" in capsys.readouterr().err


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize(
    "ring", [WHOLE, [[1, 1], [44, 1], [44, 33], [1, 33]], [[-9, -9], [90, -9], [90, 90], [-9, 90]]]
)
@pytest.mark.parametrize("name", [None, "Region*"])
def test_a_region_around_the_nuclei_is_left_out(tmp_path, capsys, at, ring, name):
    features = outlined()
    features.insert(at, feature([ring], name, what="annotation"))
    same(only(geojson(tmp_path / "a.geojson", features)), *labels())
    assert "1 of 4 outlines are drawn around others and left out as regions" in capsys.readouterr().err


def test_a_region_that_fills_the_image_is_left_out_around_one_nucleus_also_without_a_kind(tmp_path):
    features = [outlined()[0], feature([WHOLE], None)]
    for one in features:
        del one["properties"]["objectType"]
    found = only(geojson(tmp_path / "a.geojson", features))
    assert np.array_equal(found.instances > 0, labels()[0] == 2)


def test_large_and_overlapping_nuclei_are_no_regions(tmp_path, capsys):
    box = [[2, 2], [16, 2], [16, 12], [2, 12]]  # around one nucleus, not the whole image
    found = only(geojson(tmp_path / "a.geojson", [feature([box], "Dead", what="annotation"), *outlined()]))
    assert len(np.unique(found.instances)) == 5 and "regions" not in capsys.readouterr().err
    found = only(geojson(tmp_path / "a.geojson", [*outlined(), feature([box], "Dead", what="annotation")]))
    assert len(np.unique(found.instances)) == 4
    assert "1 of 4 outlines are covered entirely by later ones" in capsys.readouterr().err
    found = only(geojson(tmp_path / "a.geojson", [feature([WHOLE], "Dead"), *outlined("detection")]))
    same(found, *labels())  # a region as a detection is a region too


def test_a_cell_without_nucleus_is_left_out(tmp_path, capsys):
    nucleus = outlined("cell")
    around = [one | {"nucleusGeometry": one["geometry"]} for one in nucleus[:2]]
    found = only(geojson(tmp_path / "a.geojson", [*around, nucleus[2]]))
    assert np.array_equal(found.instances > 0, np.isin(labels()[0], (2, 7)))
    assert "1 cells without a nucleus (nucleusGeometry) are left out" in capsys.readouterr().err
    with pytest.raises(InputError, match="found 3 cells without any"):
        only(geojson(tmp_path / "a.geojson", nucleus))


def test_a_classification_as_text_is_read(tmp_path):
    features = outlined("detection")
    for one in features:
        one["properties"]["classification"] = json.dumps(one["properties"]["classification"])
    same(only(geojson(tmp_path / "a.geojson", features)), *labels())
    features[0]["properties"]["classification"] = "{odd"
    with pytest.raises(InputError, match=r"unknown type '\{odd'"):
        only(geojson(tmp_path / "a.geojson", features))


def test_contours_of_opencv_in_geojson_are_doubted(tmp_path, capsys):
    diamond = [[10, 5], [15, 10], [10, 15], [5, 10], [10, 5]]
    path = geojson(tmp_path / "a.geojson", [feature([diamond], "Dead")])
    small = only(path)
    assert "say --vertices centres if OpenCV made them" in capsys.readouterr().err
    whole = only(path, vertices="centres")
    assert (small.instances > 0).sum() == 50 and (whole.instances > 0).sum() == 61
    only(path, vertices="corners")
    only(geojson(tmp_path / "b.geojson", outlined("detection")))
    only(geojson(tmp_path / "c.geojson", [feature([[[x + 0.5, y] for x, y in diamond]], "Dead")]))
    assert "--vertices" not in capsys.readouterr().err


def contours(wrap=False) -> list[dict]:
    instances, _ = labels()
    rings = {k: centres(instances, k) for k in (2, 7, 300)}
    rings = {k: [[point] for point in ring] for k, ring in rings.items()} if wrap else rings
    return [{"contour": rings[k], "centroid": [1, 1], "type": t} for k, t in ((2, 1), (7, 3), (300, 2))]


@pytest.mark.parametrize("wrap", [False, True])
def test_contours_of_cellvit_tiatoolbox_and_hovernet(tmp_path, wrap):
    nuclei = contours(wrap)
    by_id = {f"id{n}": nucleus for n, nucleus in enumerate(nuclei)}
    for content in ({"wsi_metadata": {}, "cells": nuclei}, by_id, {"mag": None, "nuc": by_id}):
        (tmp_path / "a.json").write_text(json.dumps(content))
        same(only(tmp_path / "a.json"), *labels())


def test_cellvits_names_of_types_go_before_its_ids(tmp_path):
    """The classes of the scores may stand in another order than those of the tool."""
    instances, types = labels()
    other = np.array([0, 2, 1, 3], np.uint8)  # Neoplastic and Inflammatory exchanged
    nuclei = [one | {"type": int(other[one["type"]])} for one in contours()]
    of = {"0": "Background", "1": "Inflammatory", "2": "Neoplastic", "3": "Dead"}
    (tmp_path / "a.json").write_text(json.dumps({"type_map": of, "cells": nuclei}))
    same(only(tmp_path / "a.json"), instances, types)
    same(only(tmp_path / "a.json", TypeNames()), instances, other[types])
    same(only(tmp_path / "a.json", TypeNames(NAMES.classes, {"1": 1, "2": 2, "3": 3})), instances, other[types])


@pytest.mark.parametrize("nested", [False, True])
def test_packed_outlines_of_qupath(tmp_path, nested):
    plain = geojson(tmp_path / "x.geojson", outlined("detection"))
    (tmp_path / "g").mkdir(), (tmp_path / "z").mkdir()
    with gzip.open(tmp_path / "g/a.geojson.gz", "wb") as stream:
        stream.write(plain.read_bytes())
    with zipfile.ZipFile(tmp_path / ("z/a.geojson.zip" if nested else "z/a.zip"), "w") as archive:
        archive.write(plain, "export/x.geojson" if nested else "x.geojson")
        archive.writestr("__MACOSX/._x.geojson", b"\0")
    for path in (tmp_path / "g", tmp_path / "z", *tmp_path.glob("[gz]/*")):
        (image,) = collection(path, NAMES).images
        assert image.name == "a" and image.needs_shape
        same(image.read(SHAPE), *labels())


def test_a_zip_is_called_what_it_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "maps.zip", "w") as archive:
        archive.writestr("a.tif", b"")
        archive.writestr("b.tif", b"")
    for path in (tmp_path, tmp_path / "maps.zip"):
        with pytest.raises(InputError, match=r"found 2 files \(\.tif\), the first a\.tif; unpack it"):
            only(path)
    (tmp_path / "maps.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"maps\.zip cannot be read .*truncated or corrupt"):
        only(tmp_path)
    (tmp_path / "a.tif.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"expected a packed \.geojson\.gz"):
        only(tmp_path / "a.tif.gz")
    (tmp_path / "a.geojson.gz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"a\.geojson\.gz cannot be read"):
        only(tmp_path / "a.geojson.gz")


def test_a_zip_beside_label_maps_is_not_looked_at(tmp_path):
    """Cellpose writes ImageJ's ROIs beside its masks."""
    np.save(tmp_path / "a.npy", labels()[0])
    (tmp_path / "a_rois.zip").write_bytes(b"PK")
    same(only(tmp_path), labels()[0])


@pytest.mark.parametrize(
    ("truth", "name"),
    [
        ("t", "cells.json"),
        ("t", "tiatoolbox.json"),
        ("t", "opencv.json"),
        ("z", "qupath.zip"),
        ("z", "qupath.geojson.gz"),
    ],
)
def test_files_of_the_tools_as_users_sent_them(tmp_path, truth, name):
    folder = shared("faults/formats-of-the-tools")
    out = ("--mpp", 0.25, "--protocol", "clean", "--out", tmp_path / "out")
    assert score(tmp_path, folder / f"{truth}.npz", folder / name, *out) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["clean"]["bPQ"] == 1

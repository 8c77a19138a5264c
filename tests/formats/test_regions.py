"""Outlines that are no nuclei, that hide nuclei, or that lie in several planes: left out, said or refused."""

import json

import pytest

from benchmark.runtime.errors import InputError
from tests.support.foreign_files import corners, feature, labels, only, same

AROUND = [[1.3, 1.2], [46.4, 1.1], [46.2, 36.5], [1.1, 36.4], [1.3, 1.2]]
LEFT = [[1.3, 1.2], [25.4, 1.1], [25.2, 36.5], [1.1, 36.4], [1.3, 1.2]]
CUTS = [[9.3, 1.2], [40.4, 1.1], [40.2, 25.5], [9.1, 25.4], [9.3, 1.2]]  # a part of all three
ONE = [[1.3, 1.2], [18.4, 1.1], [18.2, 12.5], [1.1, 12.4], [1.3, 1.2]]  # around one of them


def geojson(path, *rings, what="annotation", kind="Polygon", first=False):
    """The nuclei of `labels`, and outlines around them."""
    nuclei = [feature([corners(labels()[0], k)], None, what=what) for k in (2, 7, 300)]
    around = [feature([[ring] for ring in rings] if kind != "Polygon" else [ring], None, kind, what) for ring in rings]
    features = around[:1] + nuclei if first else nuclei + around[:1]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize("what", ["annotation", "detection"])
@pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("ring", [AROUND, LEFT])
def test_a_region_is_one_whatever_it_is_called(tmp_path, capsys, what, kind, first, ring):
    path = geojson(tmp_path / "a.geojson", ring, what=what, kind=kind, first=first)
    same(only(path), labels()[0])
    assert "1 of 4 outlines are drawn around others and left out as regions" in capsys.readouterr().err


def test_an_outline_without_points_hides_no_region(tmp_path):
    path = geojson(tmp_path / "a.geojson", AROUND)
    content = json.loads(path.read_text())
    content["features"].append(feature([], None, what="annotation"))
    path.write_text(json.dumps(content))
    same(only(path), labels()[0])


@pytest.mark.parametrize("ring", [CUTS, ONE])
@pytest.mark.parametrize("first", [True, False])
def test_what_may_be_a_region_is_said(tmp_path, capsys, ring, first):
    only(geojson(tmp_path / "a.geojson", ring, first=first))
    place = 1 if first else 4
    warning = f"1 of 4 outlines lie over or under much smaller ones (the first: outline {place})"
    assert warning in capsys.readouterr().err


def test_neighbours_that_share_a_little_are_not_said(tmp_path, capsys):
    same(only(geojson(tmp_path / "a.geojson")), labels()[0])
    only(geojson(tmp_path / "a.geojson", [[14, 9], [30, 9], [30, 20], [14, 20]]))  # its edge at two of them
    assert not capsys.readouterr().err


def test_a_file_whose_outlines_hide_each_other_is_refused(tmp_path, capsys):
    whole = [feature([corners(labels()[0], k)], None) for k in (2, 7, 300)]
    path = tmp_path / "a.geojson"
    for times in (2, 3):
        path.write_text(json.dumps({"type": "FeatureCollection", "features": whole * times}))
        if times == 2:  # half of them
            same(only(path), labels()[0])
            assert "3 of 6 outlines are covered entirely by later ones" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"later outlines hide 6 of 9 for the most part: .* one nucleus several times"):
        only(path)
    contours = {str(n): {"contour": ring} for n, ring in enumerate([corners(labels()[0], k) for k in (2, 7)])}
    (tmp_path / "a.json").write_text(json.dumps({"nuc": contours | {"9": {"contour": AROUND}}}))
    with pytest.raises(InputError, match="later outlines hide 2 of 3"):
        only(tmp_path / "a.json")


@pytest.mark.parametrize(("axis", "places"), [("z", "z 0 t 0, z 1 t 0"), ("t", "z 0 t 0, z 0 t 1")])
def test_several_planes_are_refused(tmp_path, axis, places):
    features = [feature([corners(labels()[0], k)], None) for k in (2, 7, 300)]
    for n, one in enumerate(features):
        one["geometry"]["plane"] = {"c": -1, "z": 0, "t": 0} | {axis: n % 2}
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(features))
    with pytest.raises(InputError, match=rf"found those of 2 planes \({places}\); export each plane"):
        only(path)
    for one in features:
        one["geometry"]["plane"][axis] = 5
    path.write_text(json.dumps(features))
    same(only(path), labels()[0])

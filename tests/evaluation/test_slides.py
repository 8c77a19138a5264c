"""Slides predicted in tiles: the nuclei of the whole, killed and continued, the files written."""

import csv
import gzip
import json
import struct

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import ndimage

from benchmark.data.nuclei import Nuclei
from benchmark.evaluation import own_images
from benchmark.evaluation.settings import Settings
from benchmark.evaluation.slides import predict as slides
from benchmark.evaluation.slides.grid import Grid
from benchmark.formats import outlines
from benchmark.postproc.seams import common
from benchmark.runtime.errors import InputError
from tests.support import coded_slides
from tests.support.coded_slides import by_distance, by_id, ellipse, same, scattered
from tests.support.slide_files import damage, write_pyramid

pytest.importorskip("tiffslide")
CLASSES = ["a", "b", "c"]
SMALL = Settings(mpp=0.25, window=64, margin=16, tile=256)  # cores of 32, tiles of 256 that overlap by 128
FILES = {"x.geojson.gz", "x.parquet", "x.png", "x.json", "slides.csv"}


class Colours(torch.nn.Module):
    """Its raw maps are the image."""

    mpp = 0.25
    representation = coded_slides.Decoder(coded_slides.decode_ids)

    def predict(self, images):
        return {"rgb": images, "tissue": images.mean((2, 3))}


class Distances(Colours):
    representation = coded_slides.Decoder(coded_slides.decode_distances)


class Names:
    """Types by name, as files of outlines have them."""

    def id_of(self, name, where) -> int:
        return CLASSES.index(name) + 1


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr(slides, "POOL_FROM", 10**6)


@pytest.fixture(scope="module")
def labels():
    """Ragged; nuclei where four tiles meet (the first seams are at 128 and 96), and some larger than the overlap."""
    labels = scattered(491, 611)
    tiles = Grid.of(491, 611, 64, 16, 256).tiles
    for tile in tiles[1:3] + tiles[4:6]:
        ellipse(labels, tile.box[0] + 64, tile.box[1] + 64, 8, 11)
    ellipse(labels, 250, 300, 20, 200)
    ellipse(labels, 300, 100, 160, 9)
    return labels


def predict(path, out, settings=SMALL, method=Colours, made_by="test"):
    return slides.predict_slides(method(), [path], out, CLASSES, settings, "cpu", made_by)


def labels_of(out, shape) -> np.ndarray:
    return outlines.read_json(out / "x.geojson.gz", shape, Names(), None).instances


def test_tiles_give_the_nuclei_of_the_whole(tmp_path, labels):
    """Pixel by pixel, where decoding does not depend on what is around."""
    path = write_pyramid(tmp_path / "x.tif", by_id(labels))
    count = predict(path, tmp_path / "out")
    whole = own_images.nuclei_of(Colours(), by_id(labels), 0.25, "cpu", SMALL)
    assert count == len(whole) == len(np.unique(labels)) - 1
    assert same(labels_of(tmp_path / "out", labels.shape), labels)
    grid = Grid.of(*labels.shape, 64, 16, 256)
    assert len(grid.tiles) >= 12 and grid.overlap == 128
    at_corners = larger = 0
    for window in ndimage.find_objects(labels):
        if window:
            box = (window[0].start, window[1].start, window[0].stop, window[1].stop)
            at_corners += sum(common(box, tile.box) == box for tile in grid.tiles) >= 4
            larger += min(box[2] - box[0], box[3] - box[1]) < 128 < max(box[2] - box[0], box[3] - box[1])
    assert at_corners >= 4 and larger >= 2


def test_the_watershed_of_tiles_gives_the_nuclei_of_the_whole(tmp_path):
    """CellViT's decoding, which looks at its surroundings: the same nuclei, with borders that differ by pixels.

    From 14 px on: it scales gradients by the steepest of what is decoded at once, and the smallest nuclei depend on it.
    """
    labels = scattered(491, 611, least=7)
    for tile in Grid.of(491, 611, 64, 16, 256).tiles[1:6:2]:
        y, x = tile.box[0] + 64, tile.box[1] + 64
        labels[np.isin(labels, labels[y - 16 : y + 17, x - 18 : x + 19])] = 0
        ellipse(labels, y, x, 12, 15)
    path = write_pyramid(tmp_path / "x.tif", by_distance(labels))
    predict(path, tmp_path / "out", method=Distances)
    whole = own_images.nuclei_of(Distances(), by_distance(labels), 0.25, "cpu", SMALL)
    tiled = labels_of(tmp_path / "out", labels.shape)
    assert tiled.max() == len(whole) > 200
    both, pairs = np.unique(np.stack([whole.instances.ravel(), tiled.ravel()]), axis=1, return_counts=True)
    areas = np.bincount(whole.instances.ravel()), np.bincount(tiled.ravel())
    iou = pairs / (areas[0][both[0]] + areas[1][both[1]] - pairs)
    assert sorted(both[0][(iou > 0.9) & both.all(0)].tolist()) == list(range(1, len(whole) + 1))


def test_maps_of_tiles_are_those_of_the_whole(tmp_path, labels):
    """A network that looks around: with windows on one grid a tile's maps are cut from the whole's."""
    torch.manual_seed(0)
    kernel = torch.nn.Conv2d(3, 2, 9, padding=4)

    class Around(Colours):
        def predict(self, images):
            return {"np": kernel(images)}

    seen = {}

    def keep(outputs, mpp, params=None):
        seen[len(seen)] = outputs["np"]
        return Nuclei.from_labels(np.zeros(outputs["np"].shape[1:], int), None, mpp)

    Around.representation = coded_slides.Decoder(keep)
    image = by_id(labels)
    predict(write_pyramid(tmp_path / "x.tif", image), tmp_path / "out", method=Around)
    with torch.inference_mode():
        whole = own_images.maps_of(Around(), image, "cpu", SMALL)["np"]
    for k, tile in enumerate(Grid.of(*labels.shape, 64, 16, 256).tiles):
        top, left, bottom, right = tile.box
        assert np.allclose(seen[k], whole[:, top:bottom, left:right], atol=1e-5), tile


def test_what_is_written(tmp_path, labels):
    path = write_pyramid(tmp_path / "x.tif", by_id(labels))
    out = tmp_path / "out"
    count = predict(path, out)
    assert {one.name for one in out.iterdir()} == FILES
    features = json.loads(gzip.decompress((out / "x.geojson.gz").read_bytes()))["features"]
    table = pq.read_table(out / "x.parquet").to_pandas()
    assert len(features) == len(table) == count and table.id.tolist() == list(range(1, count + 1))
    geo = json.loads(pq.read_schema(out / "x.parquet").metadata[b"geo"])
    assert geo["primary_column"] == "outline" and geo["columns"]["outline"]["encoding"] == "WKB"
    for feature, row in zip(features, table.itertuples()):
        of_truth = labels[int(row.y), int(row.x)] if len(feature["geometry"]["coordinates"]) else 0
        kind = feature["properties"]["classification"]["name"]
        assert row.type == kind and feature["properties"]["measurements"]["Score"] == pytest.approx(row.score, abs=1e-4)
        if not of_truth:  # the centre of a nucleus that another cuts in two may lie in neither part
            continue
        area = (labels == of_truth).sum()
        if area * 0.25**2 == row.area_um2:
            assert kind == CLASSES[of_truth % 3] and row.score == pytest.approx(of_truth % 100 / 100)
            rows, columns = np.nonzero(labels == of_truth)
            assert (row.x, row.y) == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5))
        assert decoded(row.outline) == polygons_of(feature["geometry"]) and row.uuid == feature["id"]
    assert table.area_um2.sum() == pytest.approx((labels > 0).sum() * 0.25**2, rel=1e-5)
    facts = json.loads((out / "x.json").read_text())
    assert facts["nuclei"] == count == sum(facts["by_type"].values()) and facts["untyped"] == 0
    assert facts["by_type"] == {name: int((table.type == name).sum()) for name in CLASSES}
    (line,) = csv.DictReader((out / "slides.csv").open())
    assert line["slide"] == "x.tif" and int(line["nuclei"]) == count and int(line["a"]) == facts["by_type"]["a"]
    assert float(line["tissue_mm2"]) == pytest.approx(491 * 611 * 0.25**2 * 1e-6, abs=1e-4)


def polygons_of(geometry) -> list:
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    return [[[tuple(map(float, point)) for point in ring] for ring in polygon] for polygon in polygons]


def decoded(content: bytes) -> list:
    """Polygons of well-known binary, by hand."""

    def polygon(start):
        order, kind, n = struct.unpack_from("<BII", content, start)
        assert (order, kind) == (1, 3)
        start, rings = start + 9, []
        for _ in range(n):
            (points,) = struct.unpack_from("<I", content, start)
            values = struct.unpack_from(f"<{2 * points}d", content, start + 4)
            rings.append(list(zip(values[::2], values[1::2])))
            start += 4 + 16 * points
        return rings, start

    if struct.unpack_from("<BI", content)[1] == 3:
        return [polygon(0)[0]]
    out, start = [], 9
    for _ in range(struct.unpack_from("<BII", content)[2]):
        one, start = polygon(start)
        out.append(one)
    return out


@pytest.mark.parametrize("kept", [1, 5])
def test_killed_and_continued_at_the_tile(tmp_path, labels, monkeypatch, kept):
    path = write_pyramid(tmp_path / "x.tif", by_id(labels))
    predict(path, tmp_path / "unbroken")
    decoded_ = []

    def counted(outputs, mpp, params=None):
        if len(decoded_) == stop:
            raise KeyboardInterrupt
        decoded_.append(mpp)
        return coded_slides.decode_ids(outputs, mpp, params)

    class Counting(Colours):
        representation = coded_slides.Decoder(counted)

    stop = kept
    with pytest.raises(KeyboardInterrupt):
        predict(path, tmp_path / "out", method=Counting)
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"x.tiles"}, "nothing half-written"
    stop = -1
    predict(path, tmp_path / "out", method=Counting)
    assert len(decoded_) == len(Grid.of(*labels.shape, 64, 16, 256).tiles)
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes(), name


def test_a_slide_that_is_done_is_not_predicted_again(tmp_path, labels, capsys):
    path = write_pyramid(tmp_path / "x.tif", by_id(labels))
    count = predict(path, tmp_path / "out")

    class Never(Colours):
        def predict(self, images):
            raise AssertionError

    assert predict(path, tmp_path / "out", method=Never) == count
    assert "done before, by the same settings and weights" in capsys.readouterr().err
    (tmp_path / "out" / "x.parquet").unlink()
    with pytest.raises(AssertionError):
        predict(path, tmp_path / "out", method=Never)
    assert predict(path, tmp_path / "out", Settings(mpp=0.25, window=64, margin=16, tile=300, workers=9)) == count


def test_tiles_of_other_weights_settings_or_slides_are_not_used(tmp_path, labels, capsys):
    path = write_pyramid(tmp_path / "x.tif", by_id(labels))

    class Stops(Colours):
        calls = 0

        @coded_slides.Decoder
        def representation(outputs, mpp, params=None):
            Stops.calls += 1
            if Stops.calls > 2:
                raise KeyboardInterrupt
            return Nuclei.from_labels(np.zeros(outputs["rgb"].shape[1:], int), np.zeros(0), mpp)

    with pytest.raises(KeyboardInterrupt):
        predict(path, tmp_path / "out", method=Stops, made_by="others")
    capsys.readouterr()
    assert predict(path, tmp_path / "out") == len(np.unique(labels)) - 1
    assert "kept by other settings or weights, or of another file; it begins anew" in capsys.readouterr().err


def test_a_damaged_tile_of_the_file_is_named_and_all_else_is_written(tmp_path, labels, capsys):
    path = write_pyramid(tmp_path / "x.tif", by_id(labels))
    damage(path, 1, "bytes")
    for _ in range(2):  # the second call finds it done, and says so again
        with pytest.raises(InputError, match=r"1 of 1 slide is left out or damaged: .*1 tile of the file cannot be"):
            predict(path, tmp_path / "out")
        words = capsys.readouterr().err
        assert "row 0, column 1 of level 0" in words and f"to try again, remove {tmp_path / 'out' / 'x.json'}" in words
    assert {one.name for one in (tmp_path / "out").iterdir()} == FILES
    predicted = labels_of(tmp_path / "out", labels.shape)
    assert not predicted[:256, 257:511].any() and same(predicted[260:], labels[260:])
    assert list(json.loads((tmp_path / "out" / "x.json").read_text())["unreadable"]) == ["0 0 1"]


def test_glass_is_not_predicted(tmp_path, labels, capsys):
    image = np.full((1600, 1500, 3), 244, np.uint8)
    image[40:531, 50:661] = by_id(labels)
    path = write_pyramid(tmp_path / "x.tif", image)
    count = predict(path, tmp_path / "out")
    assert 0 < count == len(np.unique(labels)) - 1
    facts = json.loads((tmp_path / "out" / "x.json").read_text())
    assert facts["tiles"] < 0.5 * len(Grid.of(1600, 1500, 64, 16, 256).tiles)
    assert facts["tissue_mm2"] == pytest.approx(691 * 821 * 0.25**2 * 1e-6, rel=0.06)
    everywhere = Settings(mpp=0.25, window=64, margin=16, tile=256, everywhere=True)

    class Grey(Colours):
        @coded_slides.Decoder
        def representation(outputs, mpp, params=None):
            return Nuclei.from_labels((outputs["rgb"].std(0) > 0.1).astype(int), None, mpp)

    predict(path, tmp_path / "all", everywhere, Grey)
    facts = json.loads((tmp_path / "all" / "x.json").read_text())
    assert facts["tiles"] == len(Grid.of(1600, 1500, 64, 16, 256).tiles)


def test_a_slide_of_glass_has_no_nuclei(tmp_path):
    path = write_pyramid(tmp_path / "x.tif", np.full((500, 500, 3), 240, np.uint8))
    assert predict(path, tmp_path / "out") == 0
    assert pq.read_table(tmp_path / "out" / "x.parquet").num_rows == 0
    assert json.loads(gzip.decompress((tmp_path / "out" / "x.geojson.gz").read_bytes()))["features"] == []


def test_another_resolution_is_given_in_pixels_of_the_finest_level(tmp_path, labels):
    """The slide has 0.125 µm per pixel: its second level is what the method sees."""
    fine = by_id(labels).repeat(2, 0).repeat(2, 1)
    path = write_pyramid(tmp_path / "x.tif", fine, levels=2)
    predict(path, tmp_path / "out", Settings(mpp=0.125, window=64, margin=16, tile=256))
    facts = json.loads((tmp_path / "out" / "x.json").read_text())
    assert (facts["level"], facts["seen_mpp"], facts["mpp"]) == (1, 0.25, 0.125)
    assert same(labels_of(tmp_path / "out", fine.shape[:2]), labels.repeat(2, 0).repeat(2, 1))
    table = pq.read_table(tmp_path / "out" / "x.parquet").to_pandas()
    assert table.area_um2.sum() == pytest.approx((labels > 0).sum() * 0.25**2, rel=1e-5)
    assert table.x.max() > 1100


def test_axes_of_a_level_that_are_cut_differently_have_a_scale_each(tmp_path):
    """Before, both had the mean, 2.0053: columns at the right were 8 px off."""
    labels = scattered(99, 1799)
    fine = np.pad(by_id(labels).repeat(2, 0).repeat(2, 1), ((0, 1), (0, 1), (0, 0)), mode="edge")
    path = write_pyramid(tmp_path / "x.tif", fine, levels=2)
    predict(path, tmp_path / "out", Settings(mpp=0.125, window=64, margin=16, tile=256))
    table = pq.read_table(tmp_path / "out" / "x.parquet").to_pandas()
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, np.unique(labels)[1:])) + 0.5
    right = centres[centres[:, 1] > 1700] * 2
    assert len(right) > 3
    distances = np.abs(table[["y", "x"]].to_numpy() - right[:, None]).max(2).min(1)
    assert distances.max() < 1.1, "a pixel of the finest level that the coarser one has not"
    facts = json.loads((tmp_path / "out" / "x.json").read_text())
    assert facts["tissue_mm2"] == pytest.approx(199 * 3599 * 0.125**2 * 1e-6, rel=1e-6)


def test_pixels_that_must_be_enlarged_are_named(tmp_path, labels, capsys):
    path = write_pyramid(tmp_path / "x.tif", by_id(labels)[:200, :200])
    predict(path, tmp_path / "fine", Settings(mpp=0.3))
    assert "resized from 0.3)" in capsys.readouterr().err
    predict(path, tmp_path / "coarse", Settings(mpp=0.5))
    words = capsys.readouterr().err
    assert "resized from 0.5)" in words and f"{path}: 0.5 µm/px are enlarged to the method's 0.25" in words


def test_processes_write_what_one_process_writes(tmp_path, labels, monkeypatch):
    path = write_pyramid(tmp_path / "x.tif", by_id(labels))
    predict(path, tmp_path / "one")
    monkeypatch.setattr(slides, "POOL_FROM", 2)
    monkeypatch.setattr(slides, "usable_cores", lambda: 2)
    predict(path, tmp_path / "two")
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_outputs_that_are_not_finite_name_the_tile(tmp_path, labels, capsys):
    class Spoiled(Colours):
        def predict(self, images):
            return {"rgb": images / 0}

    with pytest.raises(InputError, match=r"x.tif, tile 0-0: expected finite outputs of the method"):
        predict(write_pyramid(tmp_path / "x.tif", by_id(labels)), tmp_path / "out", method=Spoiled)
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"x.tiles", "slides.csv"}


def test_two_processes_do_not_predict_one_slide(tmp_path, labels):
    import filelock

    path = write_pyramid(tmp_path / "x.tif", by_id(labels))
    (tmp_path / "out" / "x.tiles").mkdir(parents=True)
    with filelock.FileLock(tmp_path / "out" / "x.tiles" / "lock"), pytest.raises(InputError, match="another process"):
        predict(path, tmp_path / "out")


def test_a_damaged_tile_that_was_kept_is_predicted_again(tmp_path, labels, monkeypatch):
    path = write_pyramid(tmp_path / "x.tif", by_id(labels))
    monkeypatch.setattr(slides.tiles, "read", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        predict(path, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(slides, "POOL_FROM", 10**6)
    kept = tmp_path / "out" / "x.tiles" / "0-1.npz"
    kept.write_bytes(kept.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"0-1.npz cannot be read"):
        predict(path, tmp_path / "out")
    assert not kept.exists(), "the next call makes it anew"
    assert predict(path, tmp_path / "out") == len(np.unique(labels)) - 1

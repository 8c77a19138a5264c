"""Slides read region by region: compressions, levels, resolutions, missing and damaged tiles."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.data.files import resolution
from benchmark.data.files.slide import Slide, View, is_slide, mirrored, resized
from benchmark.runtime.errors import InputError
from tests.support.slide_files import damage, half, mosaic, write_pyramid, write_svs

tiffslide = pytest.importorskip("tiffslide")


@pytest.fixture(scope="module")
def image():
    """Ragged: neither side is whole tiles of the file, and a quarter of neither is whole pixels."""
    return mosaic(3, 4, glass=30)[:701, :1003]


def off(a, b) -> float:
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        ({"compression": "jpeg"}, 0.1, 7),
        ({"shared": True}, 0.1, 7),
        ({"compression": 33005}, 0, 0),
        ({"compression": "zlib"}, 0, 0),
    ],
    ids=["JPEG in YCbCr", "JPEG tables that tiles share", "JPEG 2000", "zlib"],
)
def test_every_level_and_its_ragged_ends(tmp_path, image, options, least, most):
    path = write_svs(tmp_path / "x.svs", image, levels=3, **options)
    with tifffile.TiffFile(path) as file:
        assert (file.pages[0].jpegtables is not None) == ("shared" in options)
        if "jpeg" in options.values() or "shared" in options:
            assert file.pages[0].photometric == tifffile.PHOTOMETRIC.YCBCR
    with Slide(path) as slide:
        assert [(one.height, one.width) for one in slide.levels] == [(701, 1003), (175, 250), (43, 62)]
        for k, level in enumerate(slide.levels):
            whole = slide.read(k, 0, 0, level.height, level.width)
            assert least <= off(whole, half(image, 2 * k)) <= most
            for top, left, height, width in ((20, 30, 10, 25), (level.height - 9, level.width - 7, 9, 7)):
                part = slide.read(k, top, left, height, width)
                assert np.array_equal(part, whole[top : top + height, left : left + width])
        assert not slide.unreadable
        with pytest.raises(ValueError, match="beyond"):
            slide.read(1, 0, 240, 10, 11)


def test_jpeg_2000_of_ycbcr_becomes_rgb(tmp_path, image):
    """Aperio's compression 33003: no decoder turns these colours round."""
    colours = np.asarray(Image.fromarray(image).convert("YCbCr"))
    path = write_svs(tmp_path / "x.svs", colours, compression=33003)
    with Slide(path) as slide:
        assert off(slide.read(0, 0, 0, 701, 1003), image) < 2 < 30 < off(colours, image)
        assert slide.unreadable == {}


def test_a_slide_without_coarser_levels_and_one_in_planes(tmp_path, image):
    single = write_svs(tmp_path / "x.svs", image, levels=1, compression="zlib")
    planes = tmp_path / "y.ome.tif"
    tifffile.imwrite(planes, np.moveaxis(image, -1, 0), ome=True, tile=(256, 256), photometric="minisblack",
                     metadata={"axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25})  # fmt: skip
    for path in (single, planes):
        with Slide(path) as slide:
            assert len(slide.levels) == 1 and slide.mpp == 0.25
            assert np.array_equal(slide.read(0, 100, 200, 300, 400), image[100:400, 200:600])
            small, level, factor = slide.thumbnail()
            assert (level, factor, small.shape) == (0, 4, (176, 251, 3))
            assert off(small[:175, :250], half(image, 2)) < 1
            assert off(small[-1, -1], image[700:, 1000:].mean((0, 1))) <= 0.5


def test_the_label_is_no_level_and_the_thumbnail_is_of_the_tissue(tmp_path, image):
    path = write_svs(tmp_path / "x.svs", image, levels=3, compression="zlib")
    with Slide(path) as slide:
        small, level, factor = slide.thumbnail()
    assert (level, factor) == (1, 1) and np.array_equal(small, half(image, 2))


def test_the_coarsest_level_that_is_fine_enough_for_a_resolution(tmp_path, image):
    """Before, the nearest one by ratio: at 0.52 µm per pixel one of 1.0 was enlarged to nearly twice its sides."""
    with Slide(write_svs(tmp_path / "x.svs", image, levels=3)) as slide:
        resolutions = (0.1, 0.25, 0.49, 0.52, 0.9, 0.97, 1.0, 1.25, 3.6, 9)
        assert [slide.fine_enough(mpp) for mpp in resolutions] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]
        view = View.of(slide, 0.26)
        assert (view.height, view.width, view.mpp, view.level) == (701, 1003, 0.25, 0), "5 % are left as they are"
        view = View.of(slide, 0.5)
        assert (view.height, view.width, view.mpp, view.level) == (350, 502, 0.5, 0)
        assert view.scale == pytest.approx((2, 2), abs=0.01)
        view = View.of(slide, 1.25)
        assert view.level == 1 and view.scale == pytest.approx((5, 5), rel=0.02)
        assert (View.of(slide, 0.52).level, View.of(slide, 0.1).level) == (0, 0)


@pytest.mark.parametrize("mpp", [0.25, 0.4, 0.1])
def test_windows_of_a_view_are_those_of_the_whole_and_mirrored_beyond_it(tmp_path, image, mpp):
    with Slide(write_svs(tmp_path / "x.svs", image, compression="zlib")) as slide:
        view = View.of(slide, mpp)
        whole = view.read(0, 0, view.height, view.width)
        if mpp == 0.25:
            assert np.array_equal(whole, image)
        assert np.array_equal(whole, resized(image, view.height, view.width))
        around = np.pad(whole, ((60, 60), (60, 60), (0, 0)), mode="reflect").astype(int)
        for top, left in ((-60, -60), (view.height - 40, view.width - 40), (101, 57), (-5, 211)):
            part = view.read(top, left, 100, 90)
            there = around[top + 60 : top + 160, left + 60 : left + 150]
            assert part.shape == (100, 90, 3) and np.abs(part - there).max() <= 1


@pytest.mark.parametrize(("side", "start", "length"), [(5, -12, 30), (2, -3, 9), (1, -2, 5), (40, 0, 40)])
def test_mirroring_is_numpys(side, start, length):
    expected = np.pad(np.arange(side), 40, mode="reflect")[start + 40 : start + 40 + length]
    assert mirrored(start, length, side).tolist() == expected.tolist()


@pytest.mark.parametrize("compression", ["jpeg", 33005, "zlib"])
def test_a_tile_that_cannot_be_decoded_is_white_and_named(tmp_path, image, compression):
    path = write_svs(tmp_path / "x.svs", image, compression=compression)
    with Slide(path) as slide:
        whole = slide.read(0, 0, 0, 701, 1003)
    damage(path, 5, "bytes")
    with Slide(path) as slide:
        spoilt = slide.read(0, 0, 0, 701, 1003)
        assert list(slide.unreadable) == [(0, 1, 1)] and slide.unreadable[0, 1, 1]
        assert (spoilt[256:512, 256:512] == 255).all()
        spoilt[256:512, 256:512] = whole[256:512, 256:512]
        assert np.array_equal(spoilt, whole), "all other tiles are as they were"
        slide.unreadable.clear()
        slide.read(0, 0, 0, 256, 1003)
        assert not slide.unreadable


@pytest.mark.parametrize("single", [False, True], ids=["from the region on", "at one tile"])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), OSError(116, "Stale file handle"), MemoryError()])
def test_a_failure_of_the_system_is_no_damage_of_the_file(tmp_path, image, monkeypatch, error, single):
    """Before, the tile became white, and was kept so for good."""
    path = write_svs(tmp_path / "x.svs", image)

    def fail(self, level, top, left, height, width):
        raise ValueError("damaged bytes") if single and height > 256 else error

    with Slide(path) as slide:
        monkeypatch.setattr(Slide, "_region", fail)
        with pytest.raises(MemoryError if isinstance(error, MemoryError) else InputError) as caught:
            slide.read(0, 0, 0, 300, 300)
        assert not slide.unreadable
    if isinstance(error, OSError):
        assert f"x.svs cannot be read ({error.strerror}): expected a file that may be read" in str(caught.value)


def test_a_tile_without_bytes_is_glass(tmp_path, image):
    path = write_svs(tmp_path / "x.svs", image)
    damage(path, 5, "empty")
    with Slide(path) as slide:
        part = slide.read(0, 200, 200, 200, 200)
        assert not slide.unreadable and (part[56:, 56:] == 255).all() and part[:56].std() > 5


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ("|AppMag = 40", "states no resolution; give its micrometres per pixel with --mpp"),
        ("|AppMag = 40|MPP = 0.5", "a magnification of 40 and 0.5 micrometres per pixel, which do not belong together"),
        ("|MPP = 25.0", "states 25 micrometres per pixel, expected 0.02 to 5"),
        ("|AppMag = 40|MPP = 0,2500", "states '0,2500' micrometres per pixel, expected a number from 0.02 to 5"),
        ("|AppMag = 40|MPP = nan", "states 'nan' micrometres per pixel, expected a number from 0.02 to 5"),
        ("|AppMag = 40|MPP = 0", "states '0' micrometres per pixel, expected a number from 0.02 to 5"),
    ],
)
def test_a_wrong_or_missing_resolution_is_refused(tmp_path, image, tags, says):
    path = write_svs(tmp_path / "x.svs", image, tags=tags)
    with pytest.raises(InputError, match=says) as error:
        Slide(path)
    assert str(path) in str(error.value) and "--mpp" in str(error.value)
    with Slide(path, mpp=0.25) as slide:
        assert slide.mpp == 0.25


@pytest.mark.parametrize(
    ("options", "mpp"),
    [
        ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (50800, 50800), "resolutionunit": "INCH"}, 0.5),
        ({"ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": 230, "PhysicalSizeXUnit": "nm",
                                    "PhysicalSizeY": 0.23}}, 0.23),
    ],
    ids=["per centimetre", "per inch", "OME"],
)  # fmt: skip
def test_resolutions_of_plain_pyramids(tmp_path, image, options, mpp):
    path = write_pyramid(tmp_path / ("x.ome.tif" if "ome" in options else "x.tif"), image, levels=3, **options)
    with Slide(path) as slide:
        assert slide.mpp == pytest.approx(mpp, rel=1e-4)
        assert [(one.height, one.width) for one in slide.levels] == [(701, 1003), (350, 501), (175, 250)]
        assert np.array_equal(slide.read(2, 0, 0, 175, 250), half(image, 2))
    assert resolution.of_image(path) == pytest.approx(mpp, rel=1e-4)


def test_resolutions_of_images(tmp_path, image):
    small = image[:64, :64]
    assert resolution.of_image(tmp_path / "x.png") is None, "other pictures are not opened for it"
    for options, mpp in (
        ({}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (4, 4), "imagej": True, "metadata": {"unit": "um"}}, 0.25),
        ({"resolution": (4, 4), "imagej": True, "metadata": {"unit": "pixel"}}, None),
    ):
        tifffile.imwrite(tmp_path / "x.tif", small, **options)
        assert resolution.of_image(tmp_path / "x.tif") == mpp, options
    tifffile.imwrite(tmp_path / "x.tif", small, resolution=(20000, 40000), resolutionunit="CENTIMETER")
    with pytest.raises(InputError, match=r"0.5 micrometres per pixel along x and 0.25 along y, expected square"):
        resolution.of_image(tmp_path / "x.tif")


def test_entities_of_xml_are_not_expanded(tmp_path, image):
    path = write_pyramid(tmp_path / "x.ome.tif", image, ome=True, metadata={"axes": "YXS", "PhysicalSizeX": 0.23,
                                                                             "PhysicalSizeY": 0.23})  # fmt: skip
    text = tifffile.tiffcomment(path)
    before = text.partition("<OME")
    tifffile.tiffcomment(path, f'{before[0]}<!DOCTYPE OME [<!ENTITY a "b">]>{before[1]}{before[2]}'.encode())
    with pytest.raises(InputError, match="states no resolution"):
        Slide(path)


def test_what_is_no_slide_of_stained_tissue(tmp_path, image):
    def refuse(path, says):
        with pytest.raises(InputError, match=says) as error:
            Slide(path, 0.25)
        assert str(path) in str(error.value)

    (tmp_path / "x.svs").write_bytes(b"no tiff")
    refuse(tmp_path / "x.svs", "cannot be read")
    refuse(tmp_path / "nowhere.svs", "cannot be read")
    whole = write_svs(tmp_path / "whole.svs", image).read_bytes()
    (tmp_path / "cut.svs").write_bytes(whole[: len(whole) // 20])
    refuse(tmp_path / "cut.svs", "it ends before its pixels")
    tifffile.imwrite(tmp_path / "grey.tif", image[..., 0], tile=(256, 256))
    refuse(tmp_path / "grey.tif", "expected a slide of 8-bit RGB, found uint8 of shape")
    tifffile.imwrite(tmp_path / "deep.tif", image.astype(np.uint16), tile=(256, 256), photometric="rgb")
    refuse(tmp_path / "deep.tif", "expected a slide of 8-bit RGB, found uint16")
    with tifffile.TiffWriter(tmp_path / "planes.tif") as file:  # two images of one shape: whole, but no slide
        for pixels in (image, image):
            file.write(pixels, photometric="rgb", metadata=None, tile=(256, 256))
    refuse(tmp_path / "planes.tif", r"expected a slide of 8-bit RGB, found uint8 of shape \(2, .*one image of it")
    stain = np.stack([image[..., 0]] * 5)
    tifffile.imwrite(tmp_path / "x.ome.tif", stain, tile=(256, 256), metadata={"axes": "CYX"}, photometric="minisblack")
    refuse(tmp_path / "x.ome.tif", r"expected a slide of 8-bit RGB, found uint8 of shape \(5,")
    with tifffile.TiffWriter(tmp_path / "label first.tif") as file:
        for pixels in (image[:90, :100], image):
            file.write(pixels, photometric="rgb", metadata=None, tile=(256, 256) if len(pixels) > 90 else None)
    refuse(tmp_path / "label first.tif", "expected the slide as the first image of the file")


def test_one_piece_would_take_the_memory_of_the_whole(tmp_path, monkeypatch, image):
    tifffile.imwrite(tmp_path / "x.tif", image, photometric="rgb", rowsperstrip=701)
    monkeypatch.setattr("benchmark.data.files.slide._CHUNK", 500_000)
    with pytest.raises(InputError, match="found one of 703103 pixels in one piece; save it tiled"):
        Slide(tmp_path / "x.tif", 0.25)


def test_which_files_are_slides(tmp_path, image, monkeypatch):
    tifffile.imwrite(tmp_path / "x.tif", image, photometric="rgb")
    assert not is_slide(tmp_path / "x.tif") and not is_slide(tmp_path / "x.png")
    assert is_slide(tmp_path / "x.SVS") and is_slide(tmp_path / "x.ndpi")
    monkeypatch.setattr("benchmark.data.files.slide.LARGE", 700_000)
    assert is_slide(tmp_path / "x.tif")


def test_a_tiled_pyramid_is_a_slide_however_small(tmp_path, image):
    """Before, its memory grew with its area, and a resolution that it does not state was assumed."""
    tifffile.imwrite(tmp_path / "tiled.tif", image, photometric="rgb", tile=(256, 256))
    assert not is_slide(tmp_path / "tiled.tif"), "an image of one level"
    for ome in (False, True):
        assert is_slide(write_pyramid(tmp_path / f"{ome}.ome.tif", image, levels=2, ome=ome))
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:  # as vips writes it: levels one after the other
        for k in range(3):
            file.write(half(image, k), photometric="rgb", tile=(256, 256), metadata=None, subfiletype=int(k > 0))
    assert is_slide(tmp_path / "pages.tif")


def test_an_opaque_alpha_is_dropped(tmp_path, image):
    """As of images; before, it was called no RGB. Tiles without bytes have none that is opaque."""
    clear = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    path = tmp_path / "x.tif"
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"], "tile": (256, 256)}
    tifffile.imwrite(path, clear, **options)
    damage(path, 1, "empty")
    with Slide(path, 0.25) as slide:
        read = slide.read(0, 0, 0, 701, 1003)
        assert (read[:256, 256:512] == 255).all() and np.array_equal(read[256:], image[256:])
        assert slide.thumbnail()[0].shape[2] == 3
    clear[600, 900, 3] = 254
    tifffile.imwrite(path, clear, **options)
    with Slide(path, 0.25) as slide, pytest.raises(InputError, match=r"x.tif: expected an opaque alpha.*flatten"):
        slide.read(0, 500, 800, 201, 203)
    tifffile.imwrite(path, clear, photometric="separated", tile=(256, 256))
    with pytest.raises(InputError, match="expected a slide of 8-bit RGB"):
        Slide(path, 0.25)


def test_colours_in_planes_of_their_own_are_named(tmp_path, image):
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "x.tif", planes, photometric="rgb", planarconfig="separate", tile=(256, 256))
    with pytest.raises(InputError, match=r"found 3 planes \(PlanarConfiguration 2\).* convert it"):
        Slide(tmp_path / "x.tif", 0.25)


def test_without_tiffslide_the_extra_is_named(tmp_path, image, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tiffslide", None)
    with pytest.raises(InputError, match=r"install the extra \[slides\]"):
        Slide(write_svs(tmp_path / "x.svs", image))

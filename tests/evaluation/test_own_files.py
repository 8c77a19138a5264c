"""Which files `predict` takes, and at which resolution."""

import os
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.cli import main
from benchmark.data.sources.synthetic import draw
from benchmark.evaluation.own_images import predict
from benchmark.methods import registry
from benchmark.runtime.errors import InputError


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "tile 0.png"
    Image.fromarray(draw("Colon", 3, 0).image[:128, :96]).save(path)
    return path


@pytest.mark.parametrize("ending", [".vsi", ".czi", ".bmp", ""])
def test_a_file_of_another_kind_is_refused(image, tmp_path, capsys, ending):
    """Before, Pillow opened what it could of it, at 0.25 µm per pixel: a TIFF by the name of a slide."""
    path = tmp_path / f"a{ending}"
    with Image.open(image) as picture:
        picture.save(path, "TIFF")
    words = ["predict", "--method", "classical", "--images", str(path), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert f"found '{ending}'; save an image as PNG, and convert a slide to tiled TIFF" in capsys.readouterr().err
    with pytest.raises(InputError, match="convert a slide to tiled TIFF"):
        predict(registry.build("classical", 0, 0), path)
    shutil.copy(path, tmp_path / "a.TIF")
    assert main([*words[:4], str(tmp_path / "a.TIF"), *words[5:]]) == 0


def test_a_name_that_is_no_text_is_refused_at_once(image, tmp_path, capsys):
    """Before, the outlines could not be written, after everything was predicted."""
    path = tmp_path / "in" / os.fsdecode("Gewebe \xe4.png".encode("latin-1"))
    path.parent.mkdir()
    try:
        shutil.copy(image, path)
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    for place in (path, path.parent):
        assert main(["predict", "--method", "classical", "--images", str(place), "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert f"{path.parent}: expected names in UTF-8, found 'Gewebe \\udce4.png'; rename it." in error
    assert not (tmp_path / "out").exists()


def test_predict_of_a_file_uses_the_resolution_that_it_states(tmp_path):
    """As the command does; before, it was 0.25 whatever the file stated."""
    method, image = registry.build("classical", 0, 0), draw("Colon", 3, 0).image[::2, ::2]
    stated = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    for name, options, mpp in (("a.tif", stated, 0.5), ("b.tif", {}, 0.25)):
        tifffile.imwrite(tmp_path / name, image, photometric="rgb", **options)
        nuclei = predict(method, tmp_path / name, device="cpu")
        assert nuclei.mpp == mpp
        assert np.array_equal(nuclei.instances, predict(method, image, mpp, device="cpu").instances)
    assert predict(method, tmp_path / "a.tif", 0.3, device="cpu").mpp == 0.3
    assert predict(method, image, device="cpu").mpp == 0.25

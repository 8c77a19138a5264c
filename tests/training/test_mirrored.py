"""Training images smaller than the crop: what is said of the pixels that are mirrored."""

from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.data.registry import dataset
from benchmark.data.store.patches import Patches
from benchmark.data.store.prepare import prepare
from benchmark.data.tiles import Tiles
from benchmark.training.mirrored import remarks
from tests.support import joint_sets


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """prepared(*mpp) -> patches of 64 px, a set for each resolution, joined where there are two."""
    root, known = tmp_path_factory.mktemp("mirrored"), {}

    def call(*resolutions: float):
        if resolutions not in known:
            at = root / "-".join(map(str, resolutions))
            folders = [joint_sets.folder(at / name, name, mpp=mpp) for name, mpp in zip(("one", "two"), resolutions)]
            joined = "+".join(f"folder:{folder}" for folder in folders)
            source = dataset(joined) if len(folders) > 1 else dataset("folder", folders[0])
            known[resolutions] = prepare(source, root / "cache", 1, progress=False)
        return known[resolutions]

    return call


def lines_of(data, crop: int, view=None) -> list[str]:
    training = data.subset(1, "train")
    return remarks(view(training) if view else training, data, crop)


def test_crops_that_are_mostly_mirrored_are_said(prepared):
    (line,) = lines_of(prepared(0.25), 250)
    assert line == (
        "one: 2 of 2 training images or patches are smaller than recipe.crop=250: on average 93% of a crop are "
        "mirrored pixels, whose nuclei count as background; set recipe.crop=64 or less."
    )


@pytest.mark.parametrize("crop", [16, 64, 67])
def test_a_few_pixels_too_many_are_not_worth_a_line(prepared, crop):
    assert lines_of(prepared(0.25), crop) == lines_of(prepared(0.25, 0.25), crop) == []


def test_patches_and_tiles_have_the_sides_that_are_trained_on(prepared):
    data = prepared(0.25)
    patches = Patches(data.subset(1, "train"), 40, len(data.classes))
    assert patches.shapes == [sample.nuclei.instances.shape for sample in patches]
    (line,) = remarks(patches, data, 64)
    assert line.startswith("one: 8 of 8 training images") and "set recipe.crop=40 or less" in line
    assert lines_of(data, 64, lambda whole: Tiles([whole], len(data.classes))) == []
    assert len(lines_of(data, 128, lambda whole: Tiles([whole], len(data.classes)))) == 1


def test_each_of_several_sets_as_it_is_seen(prepared):
    """64 px at 0.5 µm/px are seen as 128 px at 0.25."""
    first, second = lines_of(prepared(0.25, 0.5), 256)
    assert first.startswith("one+two: one: 2 of 2 ") and "recipe.crop=64 or less" in first
    assert second.startswith("one+two: two: 2 of 2 ") and "75% of a crop" in second and "crop=128" in second
    assert len(lines_of(prepared(0.25, 0.5), 128)) == 1


def test_a_run_says_it(tmp_path, cache, capsys):
    folder: Path = joint_sets.folder(tmp_path / "one", "one")
    line = ["run", "--method", "decoder_only@debug", "--dataset", "folder", "--data-root", str(folder)]
    line += ["--device", "cpu", "recipe.pretrain=0", "recipe.epochs=1", "recipe.samples=4", "recipe.crop=128"]
    assert main([*line, "--results", str(tmp_path / "results"), "--cache", str(cache)]) == 0
    assert "smaller than recipe.crop=128: on average 75% of a crop are mirrored" in capsys.readouterr().err

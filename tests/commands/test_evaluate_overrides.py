"""`evaluate` of a run on x20 images: the overrides that it uses, and tiles where they are no view of the images."""

import pytest

from benchmark.cli import main
from benchmark.experiment.config import parse_overrides
from benchmark.results.collect import runs
from benchmark.runtime.errors import InputError
from benchmark.training.recipe import Recipe, changed
from tests.support import joint_sets

SHORT = ("recipe.pretrain=0", "recipe.epochs=1", "recipe.samples=4")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """(folder of a run on x20 images, its data, other data at x40)."""
    root = tmp_path_factory.mktemp("overrides")
    coarse = joint_sets.folder(root / "one", "one", mpp=0.5)
    fine = joint_sets.folder(root / "two", "two", slide=80)
    line = ["run", "--method", "decoder_only@debug", "--dataset", "folder", "--data-root", coarse, "--device", "cpu"]
    assert main([str(word) for word in (*line, *SHORT, "--results", root / "results", "--cache", cache)]) == 0
    (run,) = runs(root / "results")
    return run.folder, coarse, fine


@pytest.fixture
def evaluate(trained, tmp_path, cache, capsys):
    """evaluate(data, *words) -> (exit code, stderr)."""

    def call(data, *words):
        line = ["evaluate", "--weights", trained[0], "--dataset", "folder", "--data-root", data, "--device", "cpu"]
        code = main([str(word) for word in (*line, "--out", tmp_path / "out", "--cache", cache, *words)])
        return code, capsys.readouterr().err

    return call


def test_what_evaluate_uses(evaluate, trained, tmp_path):
    for words in ((), ("recipe.eval_batch=1", "recipe.tiling=conic40"), ("recipe.precision=bf16",)):
        code, err = evaluate(trained[1], *words)
        assert code == 0, err
    ends = {run.id.method.partition("@debug")[2] for run in runs(tmp_path / "out")}
    assert {end for end in ends if "recipe." in end} == {e for e in ends if "tiling=conic40" in e or "bf16" in e}
    assert len(ends) == 3


def test_images_that_are_resampled_have_no_tiles(evaluate, trained, tmp_path):
    code, err = evaluate(trained[2], "recipe.tiling=conic40")
    assert code == 2 and "those of two are resampled to the 0.5 µm/px of the training already; leave it out" in err
    assert not list((tmp_path / "out").rglob("*.json"))
    code, err = evaluate(trained[2], "recipe.tiling=none")
    assert code == 0, err


def test_values_of_a_training_are_refused(evaluate, trained, tmp_path):
    code, err = evaluate(trained[1], "recipe.epochs=4", "recipe.crop=32")
    assert code == 2 and err.startswith("error: recipe.epochs, recipe.crop: of no effect on weights from a file")
    assert err.count("\n") == 1 and not list((tmp_path / "out").rglob("*.json"))


def test_a_recipe_takes_the_word_none_that_messages_advise():
    none = parse_overrides(["recipe.tiling=none"])
    assert changed(Recipe(tiling="conic40"), none, "here").tiling == changed(Recipe(), none, "here").tiling == "none"
    for key in ("validation", "crop_at", "optimiser.name"):
        with pytest.raises(InputError, match="is None; expected one of"):
            parse_overrides([f"recipe.{key}=none"])

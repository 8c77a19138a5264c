"""Slips on the command line, answered at once; overrides among other words; what an installed copy answers."""

import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.experiment.grid import cells
from benchmark.experiment.network_check import check_networks
from benchmark.experiment.setup import Setup
from benchmark.layers import vit
from benchmark.methods import registry
from benchmark.runtime import plugins
from benchmark.runtime.paths import ROOT

AT_ONCE = {
    "option": ["run", "--metod", "x"],
    "command": ["scor"],
    "experiment": ["ablation", "--experiment", "mian"],
    "experiment of a report": ["table", "--experiment", "mian"],
    "key of the recipe": ["run", "--method", "hovernet", "recipe.lr=3"],
    "value of the recipe": ["evaluate", "--weights", "x.pth", "recipe.eval_batch=0"],
    "word": ["status", "epochs=3"],
    "folds": ["status", "--folds", "one"],
    "shard": ["ablation", "--shard", "1"],
    "no method": ["run"],
    "method": ["run", "--method", "celvta@small"],
    "method of a recipe": ["recipe", "hovrnet"],
    "several methods": ["status", "--methods", "cellvta", "hovrnet"],
    "data set": ["ablation", "--dataset", "panuke"],
    "recipe": ["recipe", "hovernet", "recipe.lr=3"],
    "key of a row": ["run", "--method", "hovernet@small,recipe.lr=3"],
    "weights of a row": ["status", "--methods", "hovernet@weights=random"],
    "fold 0": ["run", "--method", "cellvit", "--fold", "0"],
    "folds from 0": ["ablation", "--folds", "0", "1"],
    "negative seed": ["run", "--method", "cellvit", "--seed", "-1"],
    "negative seeds": ["status", "--seeds", "0", "-1"],
    "no row": ["run", "--method", "cellvit,recipe.epochs=1"],
    "no row of several": ["status", "--methods", "cellvit,points=1"],
    "row and command line": ["run", "--method", "hovernet@recipe.epochs=3", "recipe.epochs=2"],
}
CODE = """
import sys
from benchmark.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as left:
    code = left.code
print(code, "torch" in sys.modules, "mmengine" in sys.modules)
"""


@pytest.mark.parametrize("name", AT_ONCE)
def test_a_slip_is_answered_without_torch(name, tmp_path):
    done = subprocess.run([sys.executable, "-c", CODE, *AT_ONCE[name]], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "2 False False" and done.stderr.startswith("error: "), done.stdout + done.stderr


UNFIT = {
    "micro-batches": ["run", "--method", "cellvta", "--preset", "debug", "recipe.accumulate=8", "recipe.batch=4"],
    "a text for an encoder": ["run", "--method", "cellvta", "--preset", "debug", "--backbone", "README.md"],
    "a text by name": ["ablation", "--methods", "hovernet", "--preset", "debug", "--backbone", "resnet14=README.md"],
    "a file that no encoder takes": ["run", "--method", "hovernet", "--preset", "debug", "--backbone", "README.md"],
    "an encoder that is not here": ["run", "--method", "hovernet", "--preset", "debug", "--backbone", "resnet23=a"],
    "a ViT that is not here": ["run", "--method", "cellvta", "--preset", "debug", "--backbone", "uni=README.md"],
    "no network": ["run", "--method", "classical", "--preset", "debug", "--backbone", "README.md"],
    "no row of several": [
        *("ablation", "--methods", "hovernet", "cellvta", "--preset", "debug"),
        *("--backbone", "uni=README.md"),
    ],
    "of a transfer's training": [
        *("transfer", "--method", "hovernet", "--preset", "debug", "--backbone", "resnet23=README.md"),
        *("--train", "synthetic", "--test", "synthetic@patches=6"),
    ],
    "tune": ["run", "--method", "cellvta@tune=nonsense", "--preset", "debug"],
    "tune of decoder_only's": ["run", "--method", "cellvta@tune=decoder", "--preset", "debug"],
    "heads": ["ablation", "--methods", "hovernet", "cellvta@heads=7", "--preset", "debug"],
    "width": ["ablation", "--methods", "hovernet@width=0.1", "--preset", "debug"],
    "backbone": ["run", "--method", "cellvit@backbone=resnet18", "--preset", "debug"],
    "instances": ["run", "--method", "cellvit@instances=hoover", "--preset", "debug"],
    "of a transfer": [
        "transfer",
        "--method",
        "cellvit@tune=x,recipe.epochs=1",
        "--train",
        "synthetic",
        "--test",
        "synthetic",
    ],
    "at full size": ["run", "--method", "cellvta@paper,interactions=5", "--backbone", "random"],
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_no_network_can_be_is_said_before_data_are_prepared(name, tmp_path, capsys):
    folders = ["--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    assert main([*UNFIT[name], *folders]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "weights_only" not in error
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_network_that_cannot_be_built_without_memory_is_left_to_its_training(tmp_path, monkeypatch):
    setup = Setup("synthetic", None, "debug", "main", tmp_path, tmp_path)
    chosen = cells(setup, ["cellvit"])

    def fails(*_, **__):
        raise NotImplementedError("no values on meta")

    monkeypatch.setattr(registry, "build", fails)
    check_networks(chosen)


def test_names_are_known_without_torch():
    from benchmark.data.registry import dataset_names

    assert plugins.declared("benchmark.methods") == {*registry.method_names()}
    assert plugins.declared("benchmark.data.sources") == {*dataset_names()}


def test_names_registered_in_another_form_are_not_guessed(tmp_path, monkeypatch):
    (tmp_path / "plugged").mkdir()
    (tmp_path / "plugged" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugged" / "one.py").write_text("@METHODS.register_module(name='one')\nclass One: ...")
    assert plugins.declared("plugged") == {"one"}
    (tmp_path / "plugged" / "two.py").write_text("METHODS.register_module(name=NAME)(Two)")
    assert plugins.declared("plugged") is None


@pytest.mark.parametrize(
    "words",
    [
        ["--methods", "classical", "recipe.epochs=3"],
        ["--seeds", "0", "recipe.epochs=3", "--methods", "classical"],
        ["--folds", "1", "recipe.epochs=3", "--methods", "classical"],
        ["recipe.epochs=3", "--methods", "classical"],
    ],
)
def test_overrides_stand_anywhere(words, tmp_path, capsys, monkeypatch):
    from benchmark.experiment import launch

    chosen = []
    monkeypatch.setattr(launch, "status", lambda cells, room: chosen.extend(cells) or "")
    assert main(["status", *words, "--results", str(tmp_path), "--cache", str(tmp_path)]) == 0, capsys.readouterr().err
    assert [(cell.spec.name, cell.setup.overrides) for cell in chosen] == [("classical", (("epochs", 3),))]


def test_a_command_without_recipe_refuses_overrides(capsys):
    assert main(["table", "recipe.epochs=3"]) == 2
    assert "'table' does not know 'recipe.epochs=3'" in capsys.readouterr().err


def values(capsys, *words) -> dict[str, list[str]]:
    """Key -> [value, set by, meaning] that `recipe` prints."""
    assert main(["recipe", *words]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("recipe.")]
    return {key: rest for key, *rest in ([cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines)}


def test_recipe_says_where_every_value_comes_from(capsys, tmp_path):
    from benchmark.training.recipe import Recipe, leaves

    mine = tmp_path / "mine.yaml"
    mine.write_text("_base_: main\nrecipes: {small: {ema: 0.5}}\nrecipes_on: {conic: {small: {clip: 2}}}\n")
    words = ["--preset", "small", "--experiment", str(mine), "--dataset", "conic", "recipe.optimiser.lr=0.5"]
    shown = values(capsys, "hovernet", *words)
    assert list(shown) == [key for key, _, _ in leaves(Recipe())]
    assert shown["recipe.batch"] == ["8", "default", "images per update, over all processes: " + COUNT]
    assert shown["recipe.epochs"][:2] == ["20", "scale small"]
    assert shown["recipe.ema"][:2] == ["0.5", "experiment"]
    assert shown["recipe.clip"][:2] == ["2.0", "experiment, on conic"]
    assert shown["recipe.optimiser.lr"][:2] == ["0.5", "command line"]


def test_a_method_s_name_may_have_overrides(capsys):
    shown = values(capsys, "hovernet@recipe.optimiser.betas=(0.8,0.9),recipe.ema=0.5", "recipe.clip=3")
    assert [shown[f"recipe.{key}"][0] for key in ("optimiser.betas", "ema", "clip")] == ["(0.8,0.9)", "0.5", "3.0"]
    assert shown["recipe.ema"][1] == "command line"
    assert main(["models", "--methods", "classical@small,recipe.epochs=3", "--format", "csv"]) == 0
    assert "classical@small," in capsys.readouterr().out
    assert main(["models", "--methods", "classical@small,recipe.lr=3"]) == 2


def test_a_table_expects_the_rows_of_an_experiment_by_their_settings(tmp_path):
    from benchmark.commands._options import expected_methods

    mine = tmp_path / "mine.py"
    rows = 'methods = ["hovernet", "hovernet@recipe.ema=0.5", "cellvta@points=4", "classical"]'
    mine.write_text(f'_base_ = ["main.py"]\n{rows}\nrecipes = dict(small=dict(epochs=3))\n')
    assert expected_methods(str(mine), "synthetic") == [
        "hovernet@small,recipe.epochs=3",
        "hovernet@small,recipe.ema=0.5,recipe.epochs=3",
        "cellvta@small,recipe.epochs=3",
        "classical@small",
    ]
    published = tmp_path / "published2.py"
    published.write_text('_base_ = ["published.py"]\nrecipes = dict(paper=dict(ema=0.5), small=dict(ema=0.5))\n')
    assert expected_methods(str(published))[0] == "cellvit@vit256,recipe.ema=0.5", "cellvta has no recipe at small"


COUNT = "a whole number of at least 1"


def test_recipe_of_a_publication(capsys):
    shown = values(capsys, "hovernet", "--experiment", "published", "--dataset", "pannuke")
    assert shown["recipe.schedule.name"][:2] == ["step", "published for hovernet@paper"]


@pytest.mark.parametrize("encoder", ["uni", "sam_b"])
def test_missing_weights_name_the_variable(encoder):
    works, why = vit.available(encoder, None)
    assert not works and "BACKBONE=<file>" in why
    assert "BACKBONE=resnet50=<file>" in registry.method_class("hovernet").supports({"encoder": "resnet50"})[1]


@pytest.fixture
def half_a_zip(tmp_path):
    """Fold 1 of PanNuke whole, fold 2 as a zip that ends early."""
    root = tmp_path / "pannuke"
    arrays = {"images": np.zeros((1, 256, 256, 3)), "masks": np.zeros((1, 256, 256, 6)), "types": np.array(["Colon"])}
    arrays["masks"][..., 5] = 1
    for fold in (1, 2):
        for name, array in arrays.items():
            path = root / f"Fold {fold}" / ("masks" if name == "masks" else "images") / f"fold{fold}" / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array)
    with zipfile.ZipFile(root / "fold_2.zip", "w") as packed:
        for path in sorted((root / "Fold 2").rglob("*.npy")):
            packed.write(path, path.relative_to(root))
    shutil.rmtree(root / "Fold 2")
    content = (root / "fold_2.zip").read_bytes()
    (root / "fold_2.zip").write_bytes(content[: len(content) // 2])
    return root


def test_half_a_zip_is_named_by_prepare_and_status(half_a_zip, tmp_path, capsys):
    words = ["--dataset", "pannuke", "--data-root", str(half_a_zip), "--cache", str(tmp_path / "cache")]
    for command in (["prepare"], ["status", "--methods", "classical", "--results", str(tmp_path / "results")]):
        assert main([*command, *words]) == 2
        error = capsys.readouterr().err
        assert "fold_2.zip cannot be read" in error and "truncated or corrupt" in error
    (half_a_zip / "fold_2.zip").unlink()  # a fold that is not there at all is no damage
    assert main(["prepare", *words]) == 0 and "No split can be run" in capsys.readouterr().out


@pytest.mark.parametrize("root", [["--data-root", "/nowhere/at/all"], []])
def test_status_says_that_the_data_are_missing(root, tmp_path, capsys):
    assert main(["status", "--dataset", "pannuke", *root, "--results", str(tmp_path / "results")]) == 2
    told = capsys.readouterr()
    assert "DATA_ROOT" in told.err and "not run yet" not in told.out


@pytest.mark.parametrize("word", ["\ud800", "a\0b"])
def test_a_word_that_no_file_can_be_called(word, capsys):
    assert main(["predict", "--images", "a.png", "--out", "out", "--weights", word]) == 2
    assert capsys.readouterr().err.startswith(f"error: the command line: {word!a} holds a character that")

from dataclasses import replace

import pytest

from benchmark.experiment import config
from benchmark.methods import registry
from benchmark.results import identity
from benchmark.results.run_id import RunId
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import EXPERIMENTS
from benchmark.training.scales import SCALES, recipe_for


@pytest.fixture(scope="module")
def main():
    return config.load("main")


def recipe(main, **overrides):
    return recipe_for(main, registry.parse("cellvta@small"), overrides)


def test_every_experiment_loads_and_its_methods_parse():
    for path in sorted(EXPERIMENTS.glob("*.py")):
        loaded = config.load(path.stem)
        for method in loaded.methods:
            for scale in SCALES if loaded.kind == "main" else ["paper"]:
                text, own = config.parse_row(method)
                recipe_for(loaded, registry.parse(text, scale), own)


def test_published_recipes_replace_the_matched_ones_and_only_where_there_is_one():
    published = config.load("published")
    spec = registry.parse("hovernet@paper")
    assert recipe_for(published, spec).schedule.name == "step"
    assert recipe_for(config.load("main"), spec).schedule.name != "step"
    with pytest.raises(InputError, match="has no published recipe"):
        recipe_for(published, registry.parse("hovernet@small"))


def test_main_gives_every_method_the_same_recipe(main):
    recipes = [recipe_for(main, registry.parse(m, "small")) for m in main.methods]
    assert all(r == recipes[0] for r in recipes)


def test_overrides_reach_nested_keys(main):
    assert recipe(main, **{"optimiser.lr": 1e-5}).optimiser.lr == 1e-5
    assert recipe(main).optimiser.lr != 1e-5


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"optimiser.learning": 1}, "unknown key 'recipe.optimiser.learning'"),
        ({"optimiser": 3}, "is a group of settings"),
        ({"epochs": "many"}, "recipe.epochs is 'many'; expected a whole number of at least 1"),
        ({"epochs": 0}, "at least 1"),
        ({"precision": "fp8"}, "expected one of auto, fp32"),
        ({"select": "last"}, "unknown key 'recipe.select'. It is called 'recipe.keep' now: one of best, last"),
        ({"selection": "raw"}, "It is called 'recipe.monitor' now: one of protocol, raw"),
        ({"lr": 1}, "unknown key 'recipe.lr'. Did you mean 'recipe.optimiser.lr'"),
        ({"stratgy": "cell"}, "Did you mean 'recipe.sampling.strategy'"),
        ({"gamma": 1}, "Did you mean 'recipe.schedule.gamma' or 'recipe.sampling.gamma'"),
        ({"optimiser.epochs": 1}, "Did you mean 'recipe.epochs'"),
        ({"optimizer.lr": 1}, r"unknown key 'recipe\.optimizer'\. Did you mean 'recipe\.optimiser\.lr'"),
        ({"augment": "[" * 500}, r"recipe\.augment is '\[{59} … \[{9}'; expected"),
    ],
)
def test_bad_overrides_are_refused(main, overrides, says):
    with pytest.raises(InputError, match=says):
        recipe(main, **overrides)


@pytest.mark.parametrize("word", ["recipe.epochs", "epochs=3", "=3"])
def test_words_that_are_no_overrides(word):
    with pytest.raises(InputError, match="not an override"):
        config.parse_overrides([word])


@pytest.mark.parametrize("word", ["recipe.lr=3", "recipe.epochs=0"])
def test_overrides_are_checked_where_they_are_parsed(word):
    with pytest.raises(InputError, match="the command line: "):
        config.parse_overrides([word])


def test_unknown_keys_in_an_experiment_are_refused(tmp_path):
    (tmp_path / "mine.py").write_text(
        "kind='main'\nprotocol='cellvit'\nrecipes=dict(paper=dict())\nmetods=['cellvta']\n"
    )
    with pytest.raises(InputError, match="Did you mean 'methods'"):
        config.load(str(tmp_path / "mine.py"))


def test_unknown_experiment_has_a_hint():
    with pytest.raises(InputError, match="Did you mean 'main'"):
        config.load("mian")


def test_key_ignores_order_and_sees_values():
    assert identity.key({"a": 1, "b": [1, 2]}) == identity.key({"b": (1, 2), "a": 1})
    assert identity.key({"a": 1}) != identity.key({"a": 2})


def test_differing_names_the_entry():
    assert identity.differing({"r": {"lr": 1, "n": 2}}, {"r": {"lr": 3, "n": 2}}) == ["r.lr: 1 -> 3"]


@pytest.mark.parametrize("kind", ["main", "published"])
def test_folder_and_identity_are_inverse(tmp_path, kind):
    run = RunId("pannuke", "cellvta@paper,points=8", 2, 7, kind)
    assert RunId.of(run.folder(tmp_path)) == run


def test_an_experiment_changes_recipes_by_differences(tmp_path):
    base = EXPERIMENTS / "main.py"
    changes = "recipes = dict(small=dict(epochs=7, optimiser=dict(lr=1e-2)))"
    (tmp_path / "mine.py").write_text(f"_base_ = {str(base)!r}\n{changes}\n")
    mine = config.load(str(tmp_path / "mine.py"))
    small, paper = (recipe_for(mine, registry.parse("cellvta", scale)) for scale in ("small", "paper"))
    expected = replace(SCALES["small"], epochs=7, optimiser=replace(SCALES["small"].optimiser, lr=1e-2))
    assert small == expected and paper == SCALES["paper"]


BROKEN = {
    "syntax": ("kind = (", "never closed"),
    "an exception": ("1 / 0", "ZeroDivisionError"),
    "no base": ("_base_ = 'nowhere.py'", "nowhere.py"),
    "no methods": ("_base_ = BASE\nfolds = [1]\nseeds = [0]", "'methods' is None"),
    "empty methods": ("_base_ = BASE\nmethods = []\nfolds = [1]\nseeds = [0]", "'methods' is \\[\\]"),
    "a fold in words": ("_base_ = BASE\nmethods = ['cellvta']\nfolds = ['1']\nseeds = [0]", "list of whole numbers"),
    "seed": ("_base_ = BASE\nmethods = ['cellvta']\nfolds = [1]\nseeds = 0", "list of whole numbers"),
    "kind": ("_base_ = BASE\nkind = 'mine'\nmethods = ['cellvta']\nfolds = [1]\nseeds = [0]", "main, published"),
    "protocol": ("_base_ = BASE\nprotocol = 'mine'\nmethods = ['cellvta']\nfolds = [1]\nseeds = [0]", "one of"),
    "scale": (
        "GRID\nrecipes = dict(smal=dict(epochs=3))",
        "changes to the recipe for some of debug, small, mini, paper",
    ),
    "recipes": ("GRID\nrecipes = dict(small=3)", "'recipes' is {'small': 3}"),
    "recipe's key": ("GRID\nrecipes = dict(small=dict(epoch=3))", "recipe 'small': unknown key.*Did you mean 'epochs'"),
    "recipe's value": ("GRID\nrecipes = dict(small=dict(epochs=0))", "recipe 'small': recipe.epochs is 0"),
    "recipe on data": ("GRID\nrecipes_on = dict(conic=dict(paper=dict(crop=1)))", "on 'conic': recipe.crop is 1"),
    "recipe on unknown data": ("GRID\nrecipes_on = dict(conik=dict(small=dict(epochs=3)))", "unknown data set 'conik'"),
    "recipes on data": ("GRID\nrecipes_on = dict(conic=3)", "'recipes_on'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_experiment_is_one_sentence(name, tmp_path):
    text, says = BROKEN[name]
    path = tmp_path / "mine.py"
    text = text.replace("GRID", "_base_ = BASE\nmethods = ['cellvta']\nfolds = [1]\nseeds = [0]")
    path.write_text(text.replace("BASE", repr(str(EXPERIMENTS / "_base_" / "matched.py"))))
    with pytest.raises(InputError, match=says) as caught:
        config.load(str(path))
    assert str(path) in str(caught.value)


CHANGE = "recipes = dict(small=dict(epochs=7, optimiser=dict(lr=1e-3)))"
CHANGE_IN_YAML = "recipes:\n  small:\n    epochs: 7\n    optimiser: {lr: 1e-3}\n"
ELSEWHERE = {
    "a name of ours": ("mine.py", f"_base_ = ['main']\n{CHANGE}"),
    "one name": ("mine.py", f"_base_ = 'main'\n{CHANGE}"),
    "a path below ours": (
        "mine.py",
        f"_base_ = ['_base_/matched.py']\nmethods = ['cellvta']\nfolds = seeds = [1]\n{CHANGE}",
    ),
    "our file's name is its own": ("main.py", f"_base_ = ['main.py']\n{CHANGE}"),
    "beside it": ("mine.py", f"_base_ = ['other.yaml']\n{CHANGE}"),
    "what the base holds": ("mine.py", f"_base_ = ['main']\nmethods = [*_base_.methods, 'cellvit@vit256']\n{CHANGE}"),
    "yaml": ("mine.yaml", f"_base_: [main]\n{CHANGE_IN_YAML}"),
    "yml with a mark and a base beside it": ("mine.yml", f"\ufeff_base_: other.yaml\n{CHANGE_IN_YAML}"),
}


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("inside", [True, False])
def test_an_experiment_lies_anywhere(name, inside, tmp_path, monkeypatch):
    """In the working folder or elsewhere, Python or YAML, over bases of ours and of the user's."""
    file, text = ELSEWHERE[name]
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / file).write_text(text, encoding="utf-8")
    (tmp_path / "grids" / "other.yaml").write_text("_base_: main\nseeds: [5]\n")
    monkeypatch.chdir(tmp_path / "grids" if inside else tmp_path)
    mine = config.load(file if inside else f"grids/{file}")
    small = recipe_for(mine, registry.parse("cellvta@small"))
    assert (small.epochs, small.optimiser.lr, mine.kind) == (7, 1e-3, "main")
    assert mine.seeds == ([5] if "other.yaml" in text else [1] if "matched" in text else [0])
    assert ("cellvit@vit256" in mine.methods) == ("_base_.methods" in text)


UNFIT = {
    "no base": ("mine.yaml", "_base_: nowhere", "No experiment 'nowhere'.*known are adapter, budget, claim"),
    "a misspelt base": ("mine.py", "_base_ = ['mian']", "Did you mean 'main'"),
    "a circle": ("mine.yaml", "_base_: other.yaml", "builds on itself"),
    "a computed base": ("mine.py", "_base_ = [str(1)]", "expected names of experiments or paths"),
    "a list": ("mine.yaml", "- 1", "expected keys with values"),
    "a base of numbers": ("mine.yaml", "_base_: 3", "expected names of experiments or paths"),
    "syntax": ("mine.yaml", "methods: [", "no experiment that can be read"),
    "code": ("mine.yaml", "methods: !!python/object/apply:os.mkdir [made]", "no experiment that can be read"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_an_unfit_experiment_elsewhere_is_one_sentence(name, tmp_path, monkeypatch):
    file, text, says = UNFIT[name]
    (tmp_path / file).write_text(text)
    (tmp_path / "other.yaml").write_text("_base_: mine.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says) as caught:
        config.load(file)
    assert file in str(caught.value) and not (tmp_path / "made").exists(), "YAML is read, never executed"


def test_a_name_never_executes_a_file_of_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "main.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    assert config.load("main").kind == "main"
    with pytest.raises(InputError, match="ZeroDivisionError"):
        config.load("main.py")


@pytest.mark.parametrize("name", ["mine.yaml", "grids/mine", "mine.py"])
def test_a_missing_file_is_named_as_it_was(name):
    with pytest.raises(InputError, match=rf"No experiment '{name}'") as caught:
        config.load(name)
    assert ".yaml.py" not in str(caught.value)


@pytest.mark.parametrize("name", ["/", "..", "", "."])
def test_a_folder_is_no_experiment(name):
    with pytest.raises(InputError, match="No experiment"):
        config.load(name)


BASE = "kind: main\nprotocol: cellvit\nfolds: [1]\nseeds: [0]\n"


def test_aliases_of_aliases_take_neither_time_nor_memory(tmp_path):
    """Thirty lines of YAML were written out as a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 30)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"bomb\.yaml: expected at most 100000 values, found more, made by aliases"):
        config.load(str(tmp_path / "bomb.yaml"))
    (tmp_path / "self.yaml").write_text("methods: &a [*a]\n")
    with pytest.raises(InputError, match="an alias stands within what it stands for"):
        config.load(str(tmp_path / "self.yaml"))


def test_aliases_and_merges_of_yaml_mean_what_they_say(tmp_path):
    text = BASE + "recipes: {small: &s {epochs: 3}, debug: {<<: *s, batch: 2}}\nmethods: [classical]\n"
    (tmp_path / "x.YAML").write_text(text)  # the ending in capitals, as some systems write it
    loaded = config.load(str(tmp_path / "x.YAML"))
    assert loaded.recipes == {"small": {"epochs": 3}, "debug": {"epochs": 3, "batch": 2}}


@pytest.mark.parametrize("again", ["seeds: [1]", '"seeds": [1]'])
def test_a_key_twice_in_yaml_is_refused(tmp_path, again):
    """The last one won in silence."""
    (tmp_path / "x.yaml").write_text(f"{BASE}{again}\nmethods: [classical]\n")
    with pytest.raises(InputError, match=r"x\.yaml: line 5: the key 'seeds' stands twice; keep one"):
        config.load(str(tmp_path / "x.yaml"))


def test_an_experiment_that_leaves_is_no_success(tmp_path):
    """sys.exit(0) in its file ended the whole command with exit code 0 and no word."""
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(InputError, match=r"leaves\.py is no experiment that can be read \(SystemExit: 0\)"):
        config.load(str(tmp_path / "leaves.py"))

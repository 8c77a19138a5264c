"""The matched recipe at every scale, and the recipe of one cell: a scale's, with what an experiment, a method's
publication and the command line change."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

from benchmark.methods import registry
from benchmark.runtime.errors import InputError
from benchmark.runtime.plugins import text_of
from benchmark.training.recipe import Recipe, changed, leaves, nested

BASE = Recipe()

SCALES = {
    # seconds per cell: for tests
    "debug": replace(
        BASE,
        epochs=2,
        samples=8,
        batch=4,
        crop=64,
        optimiser=replace(BASE.optimiser, lr=1e-3),
        schedule=replace(BASE.schedule, warmup=0.1),
        pretrain=2,
        workers=0,
        eval_batch=4,
    ),
    # a minute or two per cell on a laptop CPU
    "small": replace(
        BASE,
        epochs=20,
        samples=96,
        crop=128,
        eval_every=5,
        optimiser=replace(BASE.optimiser, lr=3e-3),
        workers=0,
    ),
    # 10 to 35 minutes per cell on a CPU core: the networks of `small`, trained longer, though not until they converge
    # (docs/claim.md)
    "mini": replace(
        BASE,
        epochs=64,
        samples=192,
        crop=128,
        eval_every=8,
        optimiser=replace(BASE.optimiser, lr=3e-3),
        pretrain=2560,
        workers=0,
    ),
    # one GPU: the published length, batch, optimiser, schedule and augmentation of CellVTA for all, in bf16
    "paper": replace(
        BASE,
        optimiser=replace(BASE.optimiser, betas=(0.85, 0.95)),
        schedule=replace(BASE.schedule, name="exponential", warmup=0.0, final=0.0),
        precision="auto",
        clip=0.0,
        augment="cellvta",
        eval_batch=16,
    ),
}

# data set -> scale -> what the matched recipe has in place of the scale's: at full scale the published ViTs see x40
MATCHED_ON: dict[str, dict[str, dict[str, object]]] = {"conic": {"paper": {"tiling": "conic40_corrected"}}}


def recipe_for(
    config: Any, spec: registry.Spec, overrides: dict[str, object] | None = None, dataset: str = ""
) -> Recipe:
    """The recipe of one cell: the matched recipe of its scale, or with the method's published values.

    Args:
        config: a loaded experiment (`experiment.config.load`); it may change the scales' values (`recipes`), also for
            some data sets alone (`recipes_on`).
        overrides: dotted keys below the recipe, such as {"optimiser.lr": 1e-3}.
        dataset: registered name; some recipes differ between data sets (MATCHED_ON, `recipes_on` of the experiment,
            `published_on` of the method).

    Raises:
        InputError: a key that does not exist, with a near-miss hint, a value that its check refuses, or a method
            without a published recipe in an experiment that asks for one.
    """
    return steps(config, spec, overrides, dataset)[-1][1]


def steps(
    config: Any, spec: registry.Spec, overrides: dict[str, object] | None = None, dataset: str = ""
) -> list[tuple[str, Recipe]]:
    """How the recipe of one cell comes about: (who changes it, the recipe then), from the default on.

    Arguments and errors are those of `recipe_for`.
    """
    scale = spec.row if spec.row in SCALES else "paper"
    recipe = SCALES[scale]
    out = [("default", BASE), (f"scale {scale}", recipe)]
    if config["kind"] == "main":
        recipe = changed(recipe, MATCHED_ON.get(dataset, {}).get(scale, {}), f"scale '{scale}' on '{dataset}'")
        out.append((f"scale {scale}, on {dataset}", recipe))
    recipe = changed(recipe, config.get("recipes", {}).get(scale, {}), f"recipe '{scale}'")
    out.append(("experiment", recipe))
    recipe = changed(recipe, config.get("recipes_on", {}).get(dataset, {}).get(scale, {}), f"recipe on '{dataset}'")
    out.append((f"experiment, on {dataset}", recipe))
    if config["kind"] == "published":
        recipe = published(recipe, spec, dataset)
        out.append((f"published for {spec.name}@{spec.row}", recipe))
    for dotted, value in (overrides or {}).items():
        recipe = changed(recipe, nested(dotted, value), "the command line")
        out.append(("command line", recipe))
    if recipe.validation == "random_tiles" and recipe.tiling == "none":
        raise InputError(
            "recipe.validation=random_tiles draws tiles; set recipe.tiling=conic40 too, or validation=split."
        )
    return out


def settings(recipe: Recipe, config: Any, spec: registry.Spec, dataset: str) -> dict[str, object]:
    """Where the recipe of a cell differs, in what decides the result, from that which all cells of its kind share: the
    matched recipe, or the one that its method was published with.

    Args:
        recipe: the cell's, with what the experiment (`config`) and the command line change.

    Returns:
        {"recipe.optimiser.lr": 0.0005}, sorted by key.
    """
    shared = {name: value for name, _, value in leaves(recipe_for({"kind": config["kind"]}, spec, dataset=dataset))}
    own = [(name, value) for name, one, value in leaves(recipe) if not one.metadata["execution"]]
    return dict(sorted((name, value) for name, value in own if value != shared[name]))


def origins(recipes: list[tuple[str, Recipe]]) -> list[tuple[str, str, str, str]]:
    """Every value of a recipe: (key, value, who set it, meaning), from what `steps` returns."""
    values = [(source, {name: value for name, _, value in leaves(recipe)}) for source, recipe in recipes]
    out = []
    for name, one, value in leaves(recipes[-1][1]):
        by = values[0][0]
        for (_, before), (source, after) in pairwise(values):
            by = source if after[name] != before[name] else by
        out.append((name, text_of(value), by, f"{one.metadata['doc']}: {one.metadata['check'].expected}"))
    return out


def published(recipe: Recipe, spec: registry.Spec, dataset: str) -> Recipe:
    """`recipe` with the values under which the method was published, on this data set where they differ there."""
    cls = registry.method_class(spec.name)
    if spec.row not in cls.published:
        rows = ", ".join(cls.published) or "none"
        raise InputError(
            f"{spec} has no published recipe (rows of '{spec.name}' that have one: {rows}); choose such a row, "
            "PRESET=paper, or EXPERIMENT=main."
        )
    recipe = changed(recipe, cls.published[spec.row], f"published recipe of {spec}")
    on_dataset = cls.published_on.get(dataset, {}).get(spec.row, {})
    return changed(recipe, on_dataset, f"published recipe of {spec} on '{dataset}'")


def table() -> str:
    """The table of docs/recipe.md: every key with its value in BASE, and in the scales where theirs differs."""
    rows = [["key", "default", *SCALES, "meaning", "expected"]]
    rows.append(["---"] * len(rows[0]))
    of_scales = [{name: value for name, _, value in leaves(recipe)} for recipe in SCALES.values()]
    for name, one, value in leaves(BASE):
        key = f"`{name}`" + (" ¹" if one.metadata["execution"] else "")
        differences = [text_of(other[name]) if other[name] != value else "" for other in of_scales]
        rows.append([key, text_of(value), *differences, one.metadata["doc"], one.metadata["check"].expected])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)

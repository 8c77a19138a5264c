"""The classes that a file of weights predicts, in the order of its outputs."""

from benchmark.data.files.class_names import ClassMap, distinct, listed
from benchmark.data.files.names import key
from benchmark.data.sources import conic, pannuke
from benchmark.runtime.errors import InputError
from benchmark.weights.recognise import Facts

# training set -> its name, and its classes in their published order, in which official files predict them
PUBLISHED = {
    "pannuke": ("PanNuke", pannuke.CLASSES),
    "conic": ("CoNIC", conic.CLASSES),
    "lizard": ("Lizard", conic.CLASSES),
    "consep": ("CoNSeP", ("other", "inflammatory", "epithelial", "spindle-shaped")),
}


def classes_of(facts: Facts) -> tuple[tuple[str, ...], str]:
    """(names of types 1..C, where they come from in a sentence), as its run or its training set has them.

    Returns:
        ((), "") where neither is known; no sentence for the weights of a run, which names them itself.
    """
    if facts.class_names:
        return facts.class_names, ""
    title, names = PUBLISHED.get(facts.dataset or "", ("", ()))
    if facts.own or not facts.classes or len(names) != facts.classes:
        return (), ""
    return names, f"The file names no classes: they are taken in the published order of {title} ({listed(names)})."


def classes_on(
    facts: Facts, dataset: str, label: str, classes: tuple[str, ...], class_map: ClassMap | None
) -> tuple[tuple[str, ...], str]:
    """As `classes_of`, also for a file that says neither; to be evaluated on a data set.

    Args:
        dataset: registered name of the data set. label: its name in results. classes: its classes.
        class_map: of the user; it calls types without names by their numbers, from 1.

    Raises:
        InputError: nothing says in which order the file predicts them, or their number is not the data set's.
    """
    names, why = classes_of(facts)
    if names:
        return names, why
    if class_map is not None:
        return tuple(str(k) for k in range(1, (facts.classes or len(class_map.to)) + 1)), ""
    if facts.classes not in (None, len(classes)):
        raise InputError(
            f"{facts.path}: is {facts.title}, the dataset {label} has {len(classes)} types ({listed(classes)}); give "
            f"weights with {len(classes)} types, the dataset that these were trained on, or --classes map.toml with "
            "the numbers of its types as names."
        )
    if facts.own and dataset != "folder":
        return classes, (
            f"The weights lie apart from their run, which names their classes: they are taken in the order of {label} "
            f"({listed(classes)})."
        )
    for title, published in PUBLISHED.values():
        if not facts.own and distinct(classes) and sorted(map(key, published)) == sorted(map(key, classes)):
            return published, (
                "The file names neither its classes nor its training set: they are taken in the published order of "
                f"{title}, whose classes {label} has ({listed(published)})."
            )
    beside = "put the config.json of its run beside it, or " if facts.own else ""
    raise InputError(
        f"{facts.path}: is {facts.title}, of which nothing says what its types 1, 2, … are; the dataset {label} has "
        f"{listed(classes)}; {beside}give --classes map.toml with the numbers as names."
    )

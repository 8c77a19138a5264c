"""Data sets by name: each is registered by its file in `benchmark/data/sources`, imported on first use."""

import inspect
import re

from mmengine.registry import Registry

from benchmark.data import set_names
from benchmark.runtime.errors import InputError, near_miss
from benchmark.runtime.plugins import check_name, import_all, value_of

DATASETS = Registry("dataset")


def dataset_names() -> list[str]:
    """Names of all registered datasets, sorted."""
    import_all("benchmark.data.sources")
    return sorted(DATASETS.module_dict)


def results_name(text: str, source) -> str:
    """What the results of a data set go by: the name that the user gives the data, else `text` itself.

    Args:
        text: as `dataset` takes it.
        source: what `dataset` makes of it.
    """
    if source.parts:
        return source.name
    registered, _, rest = text.partition("@")
    if (scheme := getattr(source, "scheme", None)) is not None:  # one name for the ways to write one scheme
        words = ",".join(word for word in rest.split(",") if word and not word.startswith("classes="))
        plain = results_name(f"{registered}@{words}" if words else registered, source.source)
        return f"{plain}{',' if '@' in plain else '@'}classes={scheme.name}"
    return source.name if registered == "folder" or source.name != registered else text


def dataset(text: str, root=None):
    """Open a dataset by name: `dataset("pannuke", "/data/pannuke")` or `dataset("synthetic@patches=12,seed=1")`.

    Every one that has types takes `classes=` too, see `data.sources.class_map`. Several are joined by a plus, each with
    its folder behind a colon where that is not `root`: "pannuke:/data/pannuke+monuseg:/data/monuseg", see `data.joint`.

    Raises:
        InputError: unknown dataset or argument, each with a near-miss hint; an argument that is named twice; a root
            that is missing or unfit; several that cannot be joined.
    """
    sets = set_names.split(text, dataset_names())
    if len(sets) > 1:
        return _joint(sets, root)
    if ":" in text.partition("@")[0]:
        raise InputError(
            f"'{text}': the folder of one data set is its DATA_ROOT; behind a colon stand the folders of several that "
            f"are joined by +, each of them one of {', '.join(dataset_names())}."
        )
    name, _, rest = text.partition("@")
    check_name("dataset", name, dataset_names())
    cls = DATASETS.get(name)
    known = [p for p in inspect.signature(cls.__init__).parameters if p not in ("self", "root")] + ["classes"]
    arguments: dict = {}
    for word in filter(None, rest.split(",")):
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            _check_comma(name, rest, known)
            hint = near_miss(key, known)
            raise InputError(f"Dataset '{name}' has no argument '{key}'; it has {', '.join(known)}.{hint}")
        if key in arguments:
            raise InputError(
                f"Dataset '{name}': expected {key} once, found {key}={arguments[key]} and {key}={value}; keep one"
                f"{' (--classes and CLASSES= are short for it)' if key == 'classes' else ''}."
            )
        arguments[key] = value if key == "classes" else value_of(value)
    classes = arguments.pop("classes", None)
    source = cls(root, **arguments)
    if classes is None:
        return source
    from benchmark.data.sources import class_map

    return class_map.Mapped(source, class_map.read(classes, name, source.classes))


def _check_comma(name: str, rest: str, known: list[str]) -> None:
    """Raises InputError where a class map's path has commas, which part arguments.

    Args:
        name: of the data set. rest: its arguments, as they are written. known: names of arguments.
    """
    _, _, path = f",{rest}".partition(",classes=")
    path = re.split(rf",(?=(?:{'|'.join(known)})=)", path)[0]
    if "," in path and path.lower().endswith(".toml"):
        raise InputError(
            f"Dataset '{name}': expected a class map whose path has no comma, which parts the arguments, found "
            f"'{path}'; rename or move the file."
        )


def _joint(sets: list[str], root):
    """Several data sets as one, see `data.joint.Joint`."""
    from benchmark.data.joint import Joint

    named = [set_names.with_folder(text) for text in sets]
    parts = [dataset(name, own or root) for name, own in named]
    return Joint(parts, [results_name(name, part) for (name, _), part in zip(named, parts)])

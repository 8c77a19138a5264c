"""Classes that are known beside the files themselves: of a run's predictions, and of a folder that is a data set."""

import sys
from dataclasses import replace
from pathlib import Path

from benchmark.data.files.class_names import ClassMap, listed
from benchmark.data.sources import folder_settings
from benchmark.formats.type_names import Settings, TypeNames, mapped, named
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError


def classes_beside(path: Path) -> tuple[str, ...]:
    """Names of types 1..C of the numbers in a file or folder; () where nothing beside it names them.

    They stand in config.json beside the predictions of a run, and in the dataset.toml of a `folder` data set.

    Raises:
        InputError: a dataset.toml that cannot be read.
    """
    run = RunFolder(path.parent)
    if path == run.predictions:
        run.check(run.config)
        return run.class_names
    for root in (path, path.parent):
        toml = root / "dataset.toml"
        if path.is_dir() and toml.is_file():
            settings = folder_settings.read(toml)
            labels = root / settings["files"].get("labels", folder_settings.FILES["labels"])
            return tuple(settings["classes"]) if path in (root, labels) else ()
    return ()


def settle(settings: Settings, true: Path, pred: Path, class_map: ClassMap | None) -> Settings:
    """Settings in which both sides' files are read by name wherever something names their types.

    Where classes.toml names none, the classes are those of the ground truth. What differs is said on stderr.

    Raises:
        InputError: classes of other names than those that are scored, without a map; or a map where nothing names the
            classes of the ground truth, or that stands beside a table [pred].
    """
    of_true, of_pred = classes_beside(true), classes_beside(pred)
    if settings.classes is None and of_true:
        if not of_pred and class_map is None:
            say_by_number(str(true), of_true, pred)
        names = TypeNames(of_true, outside=settings.true.outside)
        settings = replace(settings, classes=of_true, true=names, pred=names)
    if settings.classes is None:
        if class_map:
            raise InputError(
                f"{true}: nothing names its classes, to which {class_map.path} leads; name them with --types "
                "classes.toml."
            )
        if of_pred:
            print(
                f"{pred}: its types are named ({listed(of_pred)}), those of {true} are not: they are compared by "
                "number; --types classes.toml names them",
                file=sys.stderr,
            )
        return settings
    names, remark = named(settings.true, of_true, str(true)) if of_true else (settings.true, "")
    if remark:
        print(f"{true}: {remark}", file=sys.stderr)
    return replace(settings, true=names, pred=predicted(settings.pred, pred, class_map)[0])


def say_by_number(whose: str, classes: tuple[str, ...], pred: Path) -> None:
    """A line on stderr on predictions whose types nothing names, beside named ones of the data."""
    print(
        f"{pred}: nothing names its types, those of {whose} are named ({listed(classes)}): where they are numbers, "
        "they are compared by number; --classes map.toml names them",
        file=sys.stderr,
    )


def predicted(names: TypeNames, pred: Path, class_map: ClassMap | None) -> tuple[TypeNames, str]:
    """The names of the predictions' side, and a sentence on what differs from the data's classes, said on stderr too.

    Raises:
        InputError: as `settle`.
    """
    if class_map and names.table:
        raise InputError(f"{class_map.path}: the table [pred] of --types says the same; keep one of the two.")
    if of_pred := classes_beside(pred):
        names, remark = named(names, of_pred, str(pred), class_map)
        if remark:
            print(f"{pred}: {remark}", file=sys.stderr)
        return names, remark
    if class_map is None:
        return names, ""
    pairs = ", ".join(f"{name} as {to or 'untyped'}" for name, to in class_map.to.items())
    return mapped(names, class_map), f"The classes are mapped by {class_map.path.name}: {pairs}."

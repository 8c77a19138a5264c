"""Labels in MATLAB files (`data.files.matlab`), their types under this side's names."""

from pathlib import Path

from benchmark.data.files import matlab
from benchmark.formats.labelled import Labelled, from_maps


def shape(path: Path) -> tuple[int, ...]:
    """Shape of the label map, from its header. Raises InputError where there is none."""
    return matlab.shape(path)


def read(path: Path, names) -> Labelled:
    """Read a .mat up to version 7.

    Raises:
        InputError: as `data.files.matlab.read`, or a type that is no class.
    """
    labels = matlab.read(path)
    if labels.unlisted is None:
        return from_maps(labels.instances, labels.types, names, str(path))
    types = names.ids(labels.types, str(path))
    types[labels.unlisted] = 0
    return Labelled(labels.instances, types)

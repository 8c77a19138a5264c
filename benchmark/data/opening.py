"""`open_dataset`: a data set by its name, converted where it is not yet, for whoever works from Python."""

from pathlib import Path

from benchmark.data.registry import dataset
from benchmark.data.store.prepare import Prepared, prepare
from benchmark.runtime.paths import CACHE


def open_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    split: int | None = None,
    cache: str | Path = CACHE,
    progress: bool = True,
) -> Prepared:
    """Open a data set, whose images are then read at random; raw folds that are not converted yet are, once.

    Args:
        name: as DATASET= takes it: "pannuke", "folder", "synthetic@patches=12,seed=1".
        root: folder or archive of the data; drawn data need none.
        split: only the folds that this published split uses, counted from 1; None: all that are present.
        cache: folder for the converted folds; default as of the commands.
        progress: print progress and remarks on the data to stderr.

    Returns:
        `classes`, `tissues` (tuples of names), `mpp` (µm per pixel), `splits()`, and `subset(k, side)`: the images of
        "train", "val" or "test" of split k, as a sequence of `Sample`s: `image` uint8 (H, W, 3) and `nuclei`.

    Raises:
        InputError: an unknown data set or argument, data that are missing or bad, an unknown split.
    """
    return prepare(dataset(name, root), cache, split, progress)

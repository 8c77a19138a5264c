"""A folder or a file of label maps or outlines as images with names, each read when it is asked for."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.files import checks, raster
from benchmark.data.files.archive import Member, Rows
from benchmark.data.files.names import key, listing, predicted, twice
from benchmark.data.files.names import stem as stem_of
from benchmark.formats import cellpose, matlab, outlines, packed
from benchmark.formats.labelled import Labelled, check_type_map, from_maps, from_table
from benchmark.formats.stacks import Stack, members
from benchmark.formats.type_names import TypeNames
from benchmark.runtime.errors import InputError

MAPS = (".png", ".tif", ".tiff", ".npy")
OUTLINES = packed.OUTLINES
SUFFIXES = (*MAPS, ".npz", ".mat", *OUTLINES, *packed.PACKED)
ENDINGS = ("_cp_masks", "_seg")  # what Cellpose appends to the image's name, the plainer file first
BESIDE = ("_outlines", "_flows", "_dP", "_cellprob", "_cp_output")  # pictures and maps that it writes beside its masks
ROIS = ".roi"  # ImageJ's outlines
FOLDERS = ("labels", "instances", "masks")  # where label maps lie when the folder itself holds none
ONE = ("instances", "types", "tissues", "names", "mpp")  # arrays of an npz of one image
CHANNELS = 16  # of a map at most; fewer columns than any image has
TYPES = "types"  # where type maps of PNG, TIFF and npy lie


@dataclass(frozen=True)
class Image:
    """One image: `read(shape)` returns its nuclei; outlines need the shape (H, W), maps ignore it.

    `shape()` is the shape that a map will have, from its header; None where it is known only when it is read.
    """

    name: str
    where: str
    read: Callable[[tuple[int, int] | None], Labelled]
    tissue: str = ""
    needs_shape: bool = False
    shape: Callable[[], tuple[int, int] | None] = lambda: None


@dataclass(frozen=True)
class Collection:
    """Images in the order of their file; `named` is False where they have only an order. mpp: of the file, or None."""

    path: Path
    images: list[Image]
    named: bool = True
    mpp: float | None = None


def collection(path: Path, names: TypeNames, vertices: str | None = None) -> Collection:
    """Look at a folder or file.

    Args:
        names: what this side's types are called.
        vertices: of outlines, see `data.files.polygons`; None for what their format usually means.

    Raises:
        InputError: nothing there, nothing readable in it, or a name that occurs twice.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, names, vertices)
    if not path.is_file():
        raise InputError(f"'{path}' does not exist: expected a folder or file of label maps or outlines.")
    if path.suffix.lower() == ROIS:
        raise packed.rois(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a file of the kinds {', '.join(SUFFIXES)}, found '{path.suffix}'.")
    if path.suffix.lower() in (".npz", ".npy") and _dimensions(path) > 2:
        return _stack(Stack(path), names)
    return Collection(path, [_image(path, None, names, vertices)])


def _stack(stack: Stack, names: TypeNames) -> Collection:
    def reader(i: int):
        def read(shape) -> Labelled:
            where = f"{stack.path} image {title[i]}"
            instances, types, per_nucleus = stack.read(i)
            if not per_nucleus:
                return from_maps(instances, types, names, where)
            ids = np.unique(instances)
            return from_table(instances, ids[ids > 0], types, names, where)

        return read

    title = stack.names or [str(i) for i in range(stack.n)]
    tissues = stack.tissues or [""] * stack.n
    images = [
        Image(title[i], f"{stack.path} image {title[i]}", reader(i), tissues[i], shape=lambda i=i: stack.shapes[i])
        for i in range(stack.n)
    ]
    if not images:
        raise InputError(f"{stack.path}: expected at least one image, found none.")
    if (name := twice(title)) is not None:
        raise InputError(f"{stack.path}: expected distinct names, found '{name}' more than once.")
    return Collection(stack.path, images, stack.names is not None, stack.mpp)


def _folder(path: Path, names: TypeNames, vertices: str | None) -> Collection:
    files = _files(path)
    if own := predicted(path):
        return Collection(path, [_predicted(labels, outlined, names) for labels, outlined in own.items()])
    written = _files(path / "masks") if (path / "masks").is_dir() else []
    if any(file.stem.endswith(ENDINGS[0]) for file in written):  # Cellpose's folders beside its images
        path, files = path / "masks", written
    if not files:
        inner = next((path / word for word in FOLDERS if (path / word).is_dir()), None)
        files = _files(inner) if inner else []
    files = files or listing(path, (".zip",))  # beside other files a zip is something else, such as Cellpose's ROIs
    if not files and (rois := listing(path, (ROIS,))):
        raise packed.rois(rois[0])
    if not files:
        raise InputError(f"'{path}' holds no {', '.join(SUFFIXES)} files; expected one per image.")
    types = path / TYPES
    typed = {key(_name(file)): file for file in _files(types)} if types.is_dir() else {}
    images: dict[str, Image] = {}
    for file in _masks(files):
        name = key(_name(file))
        image = _image(file, typed.pop(name, None), names, vertices)
        if name in images:
            raise InputError(f"{path}: expected one file per image, found {images[name].where} and {file}.")
        images[name] = image
    if typed:
        file = next(iter(typed.values()))
        raise InputError(f"{file}: a type map without a label map '{_name(file)}' beside it in '{path}'.")
    return Collection(path, list(images.values()))


def _predicted(labels: Path, outlined: Path, names: TypeNames) -> Image:
    """An image of a folder that `predict` wrote: its outlines, which give the label map exactly and name the types."""

    def read(shape) -> Labelled:
        return outlines.read_json(outlined, raster.shape(labels), names, "corners")

    return Image(stem_of(labels), str(outlined), read, shape=lambda: raster.shape(labels)[:2])


def _masks(files: list[Path]) -> list[Path]:
    """Of a folder in which Cellpose wrote beside its images: its masks alone, or its dicts where it wrote no masks.

    The images are no label maps, also where Cellpose found nothing and hence wrote none.
    """
    stems = {file.stem for file in files}
    if len({_name(file) for file in files}) == len(files) and not any(_beside(stem) in stems for stem in stems):
        return files
    for ending in ENDINGS:
        taken = [p for p in files if p.stem.endswith(ending) and _beside(p.stem) not in stems]
        if taken:
            if left := len(files) - len(taken):
                print(f"{files[0].parent}: of Cellpose's files *{ending} are read, {left} others not", file=sys.stderr)
            return taken
    return files


def _beside(stem: str) -> str | None:
    """The name of the masks beside which Cellpose wrote a picture of this name, None for other names."""
    whole = stem.removesuffix("_cp_masks")
    return next(
        (f"{whole.removesuffix(end)}_cp_masks" for end in BESIDE if whole.endswith(end) and whole != stem), None
    )


def _files(folder: Path) -> list[Path]:
    """What may be an image each: all files that are read but zips, and of .gz those with outlines."""
    files = [path for path in listing(folder, SUFFIXES) if path.suffix.lower() != ".zip"]
    return [path for path in files if path.suffix.lower() != ".gz" or packed.is_outlines(path)]


def _name(path: Path) -> str:
    """The image's name: the stem without what Cellpose appends."""
    stem = stem_of(path)
    return next((stem.removesuffix(end) for end in ENDINGS if stem.endswith(end)), stem)


def _image(path: Path, types: Path | None, names: TypeNames, vertices: str | None) -> Image:
    """One file that holds one image."""
    suffix = path.suffix.lower()
    packed.check(path)
    held = members(path) if suffix == ".npz" else {}
    polygons, outlined = "coord" in held, suffix in (*OUTLINES, *packed.PACKED)
    if suffix == ".npz" and not polygons and "instances" not in held:
        arrays = ", ".join(held) or "nothing"
        raise InputError(f"{path}: expected instances (and types), or StarDist's coord; found {arrays}.")

    def read(shape) -> Labelled:
        if outlined:
            return outlines.read_json(path, shape, names, vertices)
        if suffix == ".mat":
            return matlab.read(path, names)
        if suffix == ".npz":
            if polygons:
                headers = {key: (rows.shape, rows.dtype) for key, rows in held.items()}
                outlines.check_stardist(headers, shape, str(path))
                if "class_id" not in held:
                    checks.say_unread(path, [key for key in held if checks.may_be_types(key)], "class_id")
                arrays = {key: held[key].whole() for key in outlines.STARDIST if key in held}
                return outlines.stardist(arrays, shape, names, str(path), vertices)
            if "types" in held:
                check_type_map(held["types"].shape, held["instances"].shape, str(path))
            for key in ("instances", "types"):
                if key in held:
                    checks.check_ids_dtype(held[key].dtype, f"{path} {key}")
            checks.say_unread_arrays(path, {key: rows.shape for key, rows in held.items()}, ONE, "types")
            arrays = {key: held[key].whole() for key in ("instances", "types") if key in held}
            return from_maps(arrays["instances"], arrays.get("types"), names, str(path))
        if suffix == ".npy" and cellpose.is_pickled(path):
            return cellpose.read(path, names)
        if types is not None:
            check_type_map(raster.shape(types, colours=False), raster.shape(path, colours=False), str(path))
        labels = raster.array(path)
        if (
            suffix != ".png" and labels.ndim == 3 and labels.shape[2] == 2 and types is None
        ):  # instances and types side by side
            return from_maps(labels[..., 0], labels[..., 1], names, str(path))
        return from_maps(labels, None if types is None else raster.array(types), names, str(path))

    def sides() -> tuple[int, int] | None:
        if polygons or outlined or (suffix == ".npy" and cellpose.is_pickled(path)):
            return None
        if held or suffix == ".npy":
            whole = held["instances"].shape if held else Rows(Member(path, "", (path.name,))).shape
        else:
            whole = matlab.shape(path) if suffix == ".mat" else raster.shape(path, colours=False)
        checks.check_plane(whole[:2] if suffix != ".png" and whole[2:] == (2,) else whole, str(path))
        return whole[:2]

    return Image(_name(path), str(path), read, needs_shape=polygons or outlined, shape=sides)


def _dimensions(path: Path) -> int:
    """Dimensions of the label array: of an npz its `instances`, 0 when there is none or it is pickled."""
    if path.suffix.lower() == ".npy":
        if cellpose.is_pickled(path):
            return 0
        shape = Rows(Member(path, "", (path.name,))).shape
        return 2 if shape[2:] == (2,) else _maps_dimensions(shape, path)
    rows = members(path)
    return _maps_dimensions(rows["instances"].shape, path) if "instances" in rows else 0


def _maps_dimensions(shape: tuple[int, ...], path: Path) -> int:
    """2 for a label map (H, W), also as (H, W, 1); 3 or 4 for many.

    Raises:
        InputError: the shape of a picture in colours, which would be as many maps of three or four columns, or of a map
            with a channel per class.
    """
    if len(shape) == 3 and shape[2] in (3, 4):
        raise InputError(
            f"{path}: expected label maps (height, width) or (images, height, width), found shape {shape}, that of a "
            "picture in colours; save one number per pixel."
        )
    if len(shape) == 3 and 1 < shape[2] <= CHANNELS < min(shape[:2]):
        raise InputError(
            f"{path}: expected label maps (height, width) or (images, height, width), found shape {shape}, that of a "
            f"map with {shape[2]} channels, such as PanNuke's of one per class; save one map of ids and one of types."
        )
    return 2 if shape[2:] == (1,) else len(shape)

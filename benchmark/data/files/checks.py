"""Checks of images and label maps, made on every one before it is converted or scored."""

import sys

import numpy as np
from scipy import ndimage

from benchmark.data.files.archive import Rows
from benchmark.runtime.errors import InputError

FEW = 10  # ids in a map that may be types
SPARSE = 16  # of each axis, pixels from one looked at to the next, where these hold enough ids
LARGEST = 2048  # px a side of an image of a stack: as many of them as a chunk has are held in memory at once
SOME = 1000  # pairs of pixels, from which a map is doubted
PIECES = 2  # of an id on average, from which a map is doubted
_WORDS = ("type", "class", "cls", "label", "categor", "kind", "semantic")  # in the name of an array that may hold types


def rgb(image: np.ndarray, where: str, doubts: "Doubts | None" = None) -> np.ndarray:
    """uint8 (H, W, 3) from an image of any real dtype in 0..255; fractions are rounded.

    Args:
        image: (H, W, 3).
        where: file and index, for the sentence.
        doubts: is told of an image whose values are rounded.

    Raises:
        InputError: not RGB, NaN or infinite, outside 0..255, or a float image in 0..1 or with fractions in 0..2: one
            that is scaled, interpolation adding a little to 1.
    """
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise not_rgb(where, image.shape)
    if image.dtype == np.uint8:
        return np.array(image)
    if image.dtype.kind not in "uif":
        raise InputError(f"{where}: expected numbers in 0..255, found dtype {image.dtype}; save it as uint8.")
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{where}: expected values in 0..255, found NaN or infinity; repair or leave out this image.")
    if low < 0 or high > 255:
        raise InputError(f"{where}: expected values in 0..255, found {low:g}..{high:g}; rescale the images.")
    if image.dtype.kind != "f":
        return image.astype(np.uint8)
    whole = np.rint(image)
    fractions = not np.array_equal(whole, image)
    if 0 < high <= 1 or (fractions and high <= 2):
        raise InputError(
            f"{where}: expected values in 0..255, found a float image in {low:g}..{high:g}; multiply the images by 255."
        )
    if fractions and doubts is not None:
        doubts.rounded(where)
    return whole.astype(np.uint8)


def not_rgb(where: str, shape: tuple[int, ...]) -> InputError:
    """The error of an image whose shape is not (height, width, 3)."""
    return InputError(f"{where}: expected RGB (height, width, 3), found shape {shape}; convert it to RGB.")


def check_rgb_rows(images: Rows, advice: str) -> None:
    """Check images by their header, before memory is taken for one.

    Raises:
        InputError: a shape other than (N, H, W, 3), N at least 1, which says `advice`; a side of more than LARGEST; no
            numbers.
    """
    if len(images.shape) != 4 or images.shape[3] != 3 or not len(images):
        raise InputError(
            f"{images.member}: expected RGB images (N, 256, 256, 3), found shape {images.shape}; {advice}."
        )
    if max(images.shape[1:3]) > LARGEST:
        raise InputError(
            f"{images.member}: expected images of at most {LARGEST} x {LARGEST} pixels, found shape {images.shape}; "
            "cut them into smaller ones."
        )
    if images.dtype.kind not in "uif":
        raise InputError(
            f"{images.member}: expected numbers in 0..255, found dtype {images.dtype}; save them as uint8."
        )


def ids(labels: np.ndarray, where: str) -> np.ndarray:
    """int64 labels of the same shape from any real dtype.

    Raises:
        InputError: NaN or infinite, negative or non-integer ids, or no numbers at all.
    """
    check_ids_dtype(labels.dtype, where)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise InputError(f"{where}: expected integer ids, found NaN or infinity; repair or leave out these labels.")
    low, high = float(labels.min(initial=0)), float(labels.max(initial=0))  # half floats cannot hold 2^53
    if low < 0:
        raise InputError(
            f"{where}: expected ids of 0 (background) and above, found the negative id {low:g}; repair it."
        )
    if high >= 2**53:
        raise InputError(f"{where}: expected ids below 2^53, found {high:g}; renumber the labels.")
    if labels.dtype.kind == "f" and high > (exact := 2 ** (np.finfo(labels.dtype).nmant + 1)):
        raise InputError(
            f"{where}: expected ids of at most {exact} in {labels.dtype}, which cannot tell larger ones apart, found "
            f"{high:g}; save the labels as integers."
        )
    whole = labels.astype(np.int64)
    if labels.dtype.kind == "f" and not np.array_equal(whole, labels):
        fraction = labels[whole != labels].flat[0]
        raise InputError(
            f"{where}: expected integer ids, found {fraction:.9g}; labels must not be interpolated, resize "
            "with nearest neighbour."
        )
    return whole


def check_ids_dtype(dtype: np.dtype, where) -> None:
    """Raises InputError for a dtype of no real numbers; by the header, before memory is taken for the values."""
    if dtype.kind not in "uifb":
        raise InputError(f"{where}: expected integer ids, found dtype {dtype}; save the labels as integers.")


def without_channel(labels: np.ndarray) -> np.ndarray:
    """(H, W) of an array (H, W, 1); any other as it is."""
    return labels[..., 0] if labels.ndim == 3 and labels.shape[2] == 1 else labels


def plane(labels: np.ndarray, where: str) -> np.ndarray:
    """int64 (H, W) ids. Raises InputError for anything but a map of whole numbers >= 0."""
    labels = without_channel(np.asarray(labels))
    check_plane(labels.shape, where)
    return ids(labels, where)


def check_plane(shape: tuple[int, ...], where: str) -> None:
    """Raises InputError for a shape that is neither (H, W) nor (H, W, 1), or is empty."""
    if len(shape[:2] if shape[2:] == (1,) else shape) != 2 or 0 in shape:
        raise InputError(f"{where}: expected a label map (height, width), found shape {shape}; save one id per pixel.")


def types(labels: np.ndarray, classes, where: str) -> np.ndarray:
    """uint8 type ids, checked as `ids` and against the number of classes."""
    whole = ids(labels, where)
    if whole.max(initial=0) > len(classes):
        raise InputError(
            f"{where}: expected types 0..{len(classes)} ({', '.join(classes)}), found {whole.max()}; check the classes."
        )
    return whole.astype(np.uint8)


def may_be_types(key: str) -> bool:
    """Whether an array of this name may hold types."""
    return any(word in key.lower() for word in _WORDS)


def say_unread(where, keys: list[str], read: str) -> None:
    """A line on stderr about arrays that may be types and are not read; `read`: what is."""
    if keys:
        verb = "is" if len(keys) == 1 else "are"
        print(f"{where}: {', '.join(keys)} {verb} not read; types are called {read}", file=sys.stderr)


def say_unread_arrays(where, shapes: dict[str, tuple[int, ...]], read: tuple[str, ...], called: str) -> None:
    """`say_unread` of arrays that may be types, by their names or because they are maps too.

    Args:
        shapes: of all arrays of a file. read: those that are known, the first is the instance map.
        called: what types are.
    """
    typed = any(key in shapes and may_be_types(key) for key in read)
    keys = [key for key in shapes if key not in read and not key.startswith("__")]
    keys = [key for key in keys if shapes[key] == shapes[read[0]] or may_be_types(key)]
    say_unread(where, [key for key in keys if not (typed and "prob" in key.lower())], called)


def inside(types: np.ndarray, instances: np.ndarray, where: str, otherwise: str = "") -> None:
    """Refuse a type map that names types where there is no instance, as a map of another image does.

    Args:
        types, instances: (H, W) ids. otherwise: what else to do about it, for the end of the sentence.

    Raises:
        InputError: a pixel has a type but no instance.
    """
    outside = np.count_nonzero((types > 0) & (instances == 0))
    if outside:
        raise InputError(
            f"{where}: the type map disagrees with the instance map: {outside} pixels have a type but no instance; "
            f"set types to 0 there{otherwise}."
        )


def in_map(instances: np.ndarray, type_map: np.ndarray, types: np.ndarray) -> np.ndarray:
    """bool (N,): whether each nucleus has a pixel of its type in a type map.

    Args:
        instances, type_map: (H, W) ids. types: (N,) in ascending order of id.
    """
    present = np.unique(instances[instances > 0])
    inside = instances > 0
    place = np.searchsorted(present, instances[inside])
    out = np.zeros(len(present), bool)
    out[place[type_map[inside] == types[place]]] = True
    return out


def lumped(labels: np.ndarray) -> str:
    """What makes a map look as if its ids were no instances, "" for nothing.

    A few ids that cover several separate pieces each: a binary mask, or a map of types (nuclei come in pieces too, but
    few of an image's do). Neighbouring pixels that rarely have the same id: a picture.
    """
    left, right = labels[:, :-1], labels[:, 1:]
    both = np.count_nonzero((left > 0) & (right > 0))
    if both > SOME and np.count_nonzero((left == right) & (left > 0)) < both / 2:
        return "most neighbouring pixels have different ids"
    for step in (SPARSE, 1):  # sorting all pixels of a large map costs more than matching it
        ids = np.unique(labels[::step, ::step])
        ids = ids[ids > 0]
        if len(ids) > FEW:
            return ""
    pieces = sum(ndimage.label(labels == k, np.ones((3, 3)))[1] for k in ids)
    many = pieces > 2 and pieces >= PIECES * len(ids)
    return f"{len(ids)} id{'s' * (len(ids) > 1)} in {pieces} separate pieces" if many else ""


class Doubts:
    """What is odd about the label maps of a data set, said in one line each on stderr when all have been looked at.

    A context manager; it says nothing when an error ends the work.

    Args:
        classes: names of types 1..C, None where they are not known.
    """

    def __init__(self, classes=None):
        self._classes = classes
        self._lumped: dict[str, str] = {}
        self._rounded: list[str] = []
        self._nuclei = self._untyped = 0
        self._present: set[int] = set()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind in (None, GeneratorExit):  # a generator that is not asked for more ends with the latter
            self._say()

    def add(self, where: str, instances: np.ndarray, types: np.ndarray | None = None) -> None:
        """Look at an image.

        Args:
            where: file and image. instances: (H, W) ids. types: map (H, W), or (N,) of the nuclei, or None.
        """
        if doubt := lumped(instances):
            self._lumped[where] = doubt
        if types is None:
            return
        self._present |= set(np.unique(types).tolist()) - {0}
        if types.ndim == 1:
            self._nuclei += len(types)
            self._untyped += np.count_nonzero(types == 0)
        else:
            self._nuclei += len(np.setdiff1d(instances, [0]))
            self._untyped += len(np.setdiff1d(instances, np.append(instances[types > 0], 0)))

    def rounded(self, where: str) -> None:
        """Take down an image whose values were fractions and are rounded."""
        self._rounded.append(where)

    def _say(self) -> None:
        if self._rounded:
            more = f" (and {len(self._rounded) - 1} more such)" if len(self._rounded) > 1 else ""
            print(
                f"warning: {self._rounded[0]}: the values of the image have fractions and are rounded to whole "
                f"numbers{more}",
                file=sys.stderr,
            )
        if self._lumped:
            where, doubt = next(iter(self._lumped.items()))
            more = f" (and {len(self._lumped) - 1} more such)" if len(self._lumped) > 1 else ""
            print(
                f"warning: {where}: {doubt}: this looks like a binary mask, a map of types or a picture; every nucleus "
                f"needs an id of its own, such as scipy.ndimage.label(mask)[0] gives{more}",
                file=sys.stderr,
            )
        if self._classes and self._untyped:
            print(f"warning: {self._of_types()}", file=sys.stderr)

    def _of_types(self) -> str:
        """The sentence on nuclei without a type, in data that have classes."""
        if not self._present:
            return (
                f"none of {self._nuclei} nuclei has a type (all are 0), and there are the classes "
                f"{', '.join(self._classes)}; give them types, or name no classes"
            )
        advice = "types are counted from 1; add 1 to those of the nuclei if yours are counted from 0"
        if len(self._classes) not in self._present:
            return (
                f"{self._untyped} nuclei have type 0, which stands for none, and no nucleus has type "
                f"{len(self._classes)} ('{self._classes[-1]}'), of {self._nuclei} nuclei in all: {advice}"
            )
        return f"{self._untyped} of {self._nuclei} nuclei have no type (type 0): {advice}"

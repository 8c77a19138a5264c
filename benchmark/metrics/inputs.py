"""Validation of label maps and types."""

import numpy as np

TYPES = 256  # type ids are below this


def label_map(labels, name: str) -> np.ndarray:
    """Labels as a contiguous integer array (H, W). Raises ValueError for anything that is no label map."""
    labels = np.ascontiguousarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"{name} has shape {labels.shape}, expected a label map (H, W)")
    if labels.dtype == bool:
        return labels.view(np.uint8)
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and np.array_equal(labels, np.rint(labels))):
        raise ValueError(f"{name} is {labels.dtype} and holds values that are no whole numbers; expected instance ids")
    if labels.dtype.kind not in "iuf":
        raise ValueError(f"{name} has dtype {labels.dtype}, expected integers")
    if labels.dtype.kind == "f" or labels.dtype == np.uint64:
        if labels.max(initial=0) >= 2**63:
            raise ValueError(f"{name} holds the id {int(labels.max())}, expected ids below 2^63")
        labels = labels.astype(np.int64)
    return labels


def type_ids(types, shape: tuple[int, int], name: str) -> np.ndarray:
    """int64 (N,) types per instance, or the contiguous (H, W) map, or a 0-d zero where `types` is None.

    Raises:
        ValueError: a wrong dtype or shape, or types per instance outside 0..255.
    """
    if types is None:
        return np.zeros((), np.int64)
    types = np.ascontiguousarray(types)
    if types.dtype.kind == "f" and np.array_equal(types, np.rint(types)):
        types = types.astype(np.int64)
    if types.dtype.kind not in "iub":
        raise ValueError(f"{name} has dtype {types.dtype}, expected integer type ids")
    if types.ndim == 2 and types.shape != shape:
        raise ValueError(
            f"{name} has shape {types.shape}, expected {shape} as the instance map, or one type per instance"
        )
    if types.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {types.shape}, expected (H, W) or one type per instance")
    if types.ndim == 1 and (types.min(initial=0) < 0 or types.max(initial=0) >= TYPES):
        raise ValueError(f"{name} holds {types.min()}..{types.max()}, expected 0..{TYPES - 1}")
    return types if types.ndim == 2 else types.astype(np.int64)


def check_agreement(instances: np.ndarray, types: np.ndarray, name: str) -> None:
    """Refuse a pixel type map that names types where the instance map has no nucleus.

    `match` ignores such pixels, since semantic maps of a data set may hold them; whoever hands over both maps of one
    prediction has mixed them up.

    Raises:
        ValueError: with the number of such pixels.
    """
    types = np.asarray(types)
    if types.ndim == 2 and types.shape == np.shape(instances):
        outside = int(np.count_nonzero((types != 0) & (np.asarray(instances) == 0)))
        if outside:
            raise ValueError(
                f"{name}: the type map names types on {outside} pixels where the instance map has no nucleus; "
                "expected type 0 there; take np.where(instances > 0, types, 0) if it holds a type for every pixel"
            )

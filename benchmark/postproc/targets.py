"""Horizontal and vertical distance maps (HoVer-Net, Graham et al. 2019; CellViT, Hörst et al. 2024) as
targets.

For a pixel in column c of an instance whose centre of mass lies in column m, x = c + 1 - floor(m + 1/2);
negative values are divided by |min|, positive ones by max over the instance, so that x runs from -1 to 1; y
likewise over rows. The pixel offset of 1 is the published one: the zero lies one pixel before the rounded
centre.
"""

import numpy as np
from scipy import ndimage
from skimage.measure import label

MARGIN = 2  # pixels by which the published code widens each bounding box
MIN_SIDE = 2  # a widened box thinner than this is skipped: its instance keeps 0
MIN_PIXELS = 30  # HoVer-Net: fewer pixels than this inside the crop, and the instance keeps 0


def hv_targets(instances: np.ndarray, variant: str = "cellvit", crop: tuple[int, int] | None = None) -> np.ndarray:
    """Distance maps of all instances, 0 on background.

    Args:
        instances: (H, W) integer ids, 0 = background, ids need not be contiguous.
        variant: "cellvit" (also CellVTA), or "hovernet": disconnected pieces (4-connected) of one id are
            separate instances, those with fewer than 30 pixels inside the crop keep 0, and so do those whose
            widened bounding box would begin above or left of the image (a negative start of a slice).
        crop: hovernet only: (height, width) of the centre to return; centres come from the whole patch.

    Returns:
        float32 (2, H, W), or (2, height, width): channel 0 = x, 1 = y, both in [-1, 1].

    Raises:
        ValueError: instances is not a 2-d map of integers >= 0, unknown variant, or crop that does not fit.

    An image without any background pixel, on which both published codes fail, is treated like every other.
    """
    instances = np.asarray(instances)
    if instances.ndim != 2 or instances.dtype.kind not in "iu":
        raise ValueError(f"expected a (height, width) map of integer ids, found {instances.dtype} {instances.shape}")
    if instances.min(initial=0) < 0:
        raise ValueError("expected ids >= 0, found a negative one")
    if variant == "hovernet":
        return _hovernet(instances, instances.shape if crop is None else crop)
    if variant != "cellvit":
        raise ValueError(f"unknown variant '{variant}'; expected 'cellvit' or 'hovernet'")
    if crop is not None:
        raise ValueError("crop belongs to variant 'hovernet'; cut the instance map itself for 'cellvit'")
    if instances.max(initial=0) > instances.size:  # tables below are as long as the largest id
        flat = np.unique(np.append(instances.ravel(), 0), return_inverse=True)[1]
        instances = flat[:-1].reshape(instances.shape)
    instances = instances.astype(np.int64, copy=False)
    return _distances(instances, ndimage.find_objects(instances))


def _hovernet(instances: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    height, width = instances.shape
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    if top < 0 or left < 0:
        raise ValueError(f"crop {tuple(crop)} is larger than the map {instances.shape}")
    centre = (slice(top, top + crop[0]), slice(left, left + crop[1]))
    pieces = label(instances, background=0, connectivity=1)
    boxes = ndimage.find_objects(pieces)
    seen = np.bincount(pieces[centre].ravel(), minlength=len(boxes) + 1)
    full = {}
    for k, box in enumerate(boxes):
        if seen[k + 1] < MIN_PIXELS:
            boxes[k] = None
        elif min(box[0].start, box[1].start) < MARGIN:
            full[k + 1], boxes[k] = _python_slice(box), None
    maps = _distances(pieces, boxes)
    for k, window in full.items():
        part = np.where(pieces[window] == k, 1, 0)
        if min(part.shape) >= MIN_SIDE and part.any():
            maps[(slice(None), *window)] += _distances(part, ndimage.find_objects(part))
    return maps[(slice(None), *centre)]


def _python_slice(box: tuple[slice, slice]) -> tuple[slice, slice]:
    """The widened box as the published code indexes it: a negative start counts from the far end, so the
    slice is empty, or for an instance that spans the image a sliver of it."""
    return tuple(slice(side.start - MARGIN, side.stop + MARGIN) for side in box)


def _distances(labels: np.ndarray, boxes: list) -> np.ndarray:
    """float32 (2, H, W) for the labels that have a box; the whole map in one pass, no mask per instance."""
    maps = np.zeros((2, *labels.shape), np.float32)
    kept = np.array([k for k, box in enumerate(boxes) if box is not None and _wide(box, labels.shape)], np.intp)
    if not len(kept):
        return maps
    rank = np.full(len(boxes) + 1, -1, np.intp)
    rank[kept + 1] = np.arange(len(kept))
    rows, cols = np.nonzero(labels)
    which = rank[labels[rows, cols]]
    if (which < 0).any():
        rows, cols, which = (a[which >= 0] for a in (rows, cols, which))
    area = np.bincount(which, minlength=len(kept))
    bounds = np.array([[(s.start, s.stop - 1) for s in boxes[k]] for k in kept])
    for channel, (place, axis) in enumerate(((cols, 1), (rows, 0))):
        total = np.bincount(which, place, len(kept)).astype(np.int64)
        origin = (2 * total + area) // (2 * area) - 1  # floor(mean + 1/2) - 1, in integers
        low = np.maximum(origin - bounds[:, axis, 0], 1).astype(np.float32)
        high = np.maximum(bounds[:, axis, 1] - origin, 1).astype(np.float32)
        offset = (place - origin[which]).astype(np.float32)
        maps[channel, rows, cols] = offset / np.where(offset < 0, low[which], high[which])
    return maps


def _wide(box: tuple[slice, slice], shape: tuple[int, int]) -> bool:
    """Whether the widened box, clipped to the image, has both sides of at least MIN_SIDE pixels."""
    return all(
        min(side.stop + MARGIN, length) - max(side.start - MARGIN, 0) >= MIN_SIDE for side, length in zip(box, shape)
    )

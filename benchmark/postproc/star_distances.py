"""Targets of StarDist: how far a nucleus reaches from each of its pixels, and how deep the pixel lies in it.

Schmidt et al. 2018, "Cell Detection with Star-Convex Polygons"; Weigert and Schmidt 2022, "Nuclei Instance
Segmentation and Classification in Histopathology Images with StarDist". What the distances are is defined by the
authors' package `stardist` (BSD-3), `lib/stardist2d.cpp`, whose results these equal: they are steps along a ray, not
exact geometry.
"""

import functools

import numpy as np
from scipy import ndimage

RAYS = 32  # as published


def star_distances(instances: np.ndarray, rays: int = RAYS) -> np.ndarray:
    """Distances from each pixel to the end of its nucleus along rays, by unit steps.

    Ray k has the angle phi = 2 pi k / rays from the row to the right towards the rows below: (row, column) =
    (sin phi, cos phi). A ray ends with the first step whose nearest pixel (a half to the even one, in float32 as the
    package has it) is outside of the image or not of the same nucleus. The distance is that of the last step, and of
    the part of a step that is half a pixel along the ray's larger component.

    Args:
        instances: (H, W) integer ids, 0 = background.
        rays: number of rays.

    Returns:
        float32 (rays, H, W) in pixels, 0 on background.
    """
    instances = np.asarray(instances)
    height, width = instances.shape
    out = np.zeros((rays, height, width), np.float32)
    boxes = ndimage.find_objects(instances) if instances.max(initial=0) <= instances.size else None
    if boxes is None:
        instances = np.unique(instances, return_inverse=True)[1].reshape(instances.shape)
        boxes = ndimage.find_objects(instances)
    sides = [max(s.stop - s.start for s in box) for box in boxes if box is not None]
    if not sides:
        return out
    labels = _narrow(instances)
    # no ray is longer than the diagonal of a box: pad by that, and no step leaves the padded image
    most = int(np.ceil(max(sides) * 2**0.5)) + 2
    padded = np.pad(labels, most)
    inside = labels > 0
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    window = labels[top:bottom, left:right]
    inside = inside[top:bottom, left:right]
    shape = window.shape
    same, alive, count = np.empty(shape, bool), np.empty(shape, bool), np.empty(shape, np.uint16)
    for k in range(rays):
        down, across, length = _steps(k, rays, most)
        np.copyto(alive, inside)
        count[:] = 0
        for step in range(most):
            i, j = _nearest(down[step], top, bottom), _nearest(across[step], left, right)
            if isinstance(i, int) and isinstance(j, int):
                y, x = top + i + most, left + j + most
                there = padded[y : y + shape[0], x : x + shape[1]]
            else:  # rounded differently in different rows or columns
                i = np.arange(top, bottom) + i if isinstance(i, int) else i
                j = np.arange(left, right) + j if isinstance(j, int) else j
                there = padded[np.ix_(i + most, j + most)]
            np.equal(there, window, out=same)
            np.logical_and(alive, same, out=alive)
            count += alive
            if step % 4 == 3 and not alive.any():
                break
        out[k, top:bottom, left:right] = length[count] * inside
    return out


def object_probability(instances: np.ndarray) -> np.ndarray:
    """float32 (H, W): each pixel's distance to what is not its nucleus, relative to the largest one of its nucleus.

    As the package's `edt_prob`: what lies beyond the image's edge is no background, but for an image that is one
    nucleus.

    Args:
        instances: (H, W) integer ids, 0 = background.
    """
    instances = np.asarray(instances)
    out = np.zeros(instances.shape, np.float32)
    whole = instances.size > 0 and instances.min() == instances.max()
    for k, box in enumerate(ndimage.find_objects(instances), 1):
        if box is None:
            continue
        wide = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        mask = instances[wide] == k
        if whole:
            distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1][mask]
        else:
            distance = ndimage.distance_transform_edt(mask)[mask]
        out[wide][mask] = distance / (distance.max() + 1e-10)
    return out


@functools.cache
def _steps(k: int, rays: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, columns) float32 (most,) after each step of ray k, and the distance after 0, 1, ... whole steps inside.

    Sums of float32 steps, one after the other, as the package adds them.
    """
    phi = np.float32(k) * np.float32(2 * np.pi / rays)
    step = np.array([np.sin(np.float64(phi)), np.cos(np.float64(phi))], np.float32)
    ends = np.zeros((most, 2), np.float32)
    at = np.zeros(2, np.float32)
    for n in range(most):
        at = at + step
        ends[n] = at
    back = np.float32(0.5) / np.abs(step).max() - np.float32(1)
    corrected = ends + back * step
    return ends[:, 0], ends[:, 1], np.sqrt((corrected**2).sum(1, dtype=np.float32))


def _nearest(offset: np.float32, start: int, stop: int):
    """Offset to the nearest pixel from positions start..stop-1; where that differs, the pixels (stop - start,)."""
    whole = int(np.rint(offset))
    if abs(abs(float(offset) - whole) - 0.5) > 1e-3 and stop < 2**13:
        return whole  # float32 sums of positions below 2^13 err by less than that
    rounded = np.rint(np.arange(start, stop, dtype=np.float32) + offset).astype(np.int64)
    return whole if (rounded == np.arange(start, stop) + whole).all() else rounded


def _narrow(instances: np.ndarray) -> np.ndarray:
    """The ids in the narrowest type that holds them."""
    most = int(instances.max(initial=0))
    return instances.astype(np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.int32)

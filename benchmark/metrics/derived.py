"""Columns of records that follow from others: what `match` and `Records.collect` compute of areas, centroids, overlaps.

They stand apart so that records may be stored without them and be completed by the functions that made them.
"""

import numpy as np
from scipy.spatial import cKDTree


def pair_iou(area: np.ndarray, other_area: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """float64 (P,): IoU of pairs of nuclei, from their areas and common pixels (P,)."""
    return shared / (area + other_area - shared)


def partners(n: int, own: np.ndarray, other_id: np.ndarray, iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The partner of each of n nuclei of a side.

    Args:
        own, other_id, iou: (P,) of each overlapping pair: position of the nucleus, id of the other one, their IoU.

    Returns:
        (int64 (n,) id of the nucleus with IoU > 0.5, 0 = none; float64 (n,) the largest IoU with any nucleus).
    """
    best, partner = np.zeros(n), np.zeros(n, np.int64)
    np.maximum.at(best, own, iou)
    hit = iou > 0.5
    partner[own[hit]] = other_id[hit]
    return partner, best


def ids(parts: list[np.ndarray]) -> np.ndarray:
    """Joined ids as int32 where they fit, else int64."""
    joined = np.concatenate([np.zeros(0, np.int64), *parts])
    return joined.astype(np.int32) if joined.max(initial=0) <= np.iinfo(np.int32).max else joined


def diameter_um(area: np.ndarray, mpp: np.ndarray) -> np.ndarray:
    """float32 (N,): equivalent diameter, um, from areas (px) and micrometres per pixel (N,)."""
    return (2 * np.sqrt(area / np.pi) * mpp).astype(np.float32)


def neighbour_um(x: np.ndarray, y: np.ndarray, sizes: np.ndarray, mpp: np.ndarray) -> np.ndarray:
    """float32 (N,) distance of each centroid to the nearest one of its side and image, um; NaN where it is alone.

    Args:
        x, y: float64 (N,), px, the nuclei of one side of one image after those of the other.
        sizes: int64, how many nuclei each side of each image has.
        mpp: float64 (N,).
    """
    if not sizes.sum():
        return np.zeros(0, np.float32)
    points = np.array([x, y]).T
    side = np.repeat(np.arange(len(sizes)), sizes)
    # sides as floors of one building, farther apart than any two nuclei of one image
    floor = 2 * (points.max() + 1)
    tree = cKDTree(np.column_stack([points, side * floor]), compact_nodes=False, balanced_tree=False)
    distance, _ = tree.query(tree.data, k=[2], distance_upper_bound=floor)
    distance = distance[:, 0]
    return np.where(np.isfinite(distance), distance * mpp, np.nan).astype(np.float32)


def foreground(overlaps, number: np.ndarray) -> dict[str, np.ndarray]:
    """int64 (n,) each: true_pixels, pred_pixels, both_pixels of the images with these numbers (n,), ascending.

    Args:
        overlaps: columns of the table of overlaps by name.
    """
    columns = {name: np.asarray(overlaps[name]) for name in ("image", "true_id", "pred_id", "pixels")}
    image, pixels = np.searchsorted(number, columns["image"]), columns["pixels"]
    true, pred = columns["true_id"] > 0, columns["pred_id"] > 0
    masks = {"true_pixels": true, "pred_pixels": pred, "both_pixels": true & pred}
    return {
        name: np.bincount(image[mask], weights=pixels[mask], minlength=len(number)).astype(np.int64)
        for name, mask in masks.items()
    }

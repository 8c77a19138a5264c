"""Drawn label maps with noisy StarDist maps of them, for comparisons with the package `stardist`."""

import numpy as np
from scipy import ndimage

from benchmark.postproc.star_distances import object_probability, star_distances
from tests.support.scenes import crowd, disks, patch


def label_maps() -> dict[str, np.ndarray]:
    """Separate, touching, small and crowded nuclei, cut by the image's edge, of any ids, and none."""
    return {
        "separate": disks(64, 12, 5).instances,
        "touching": crowd(64, 14).instances,
        "crowded": patch(0).instances,
        "odd ids": np.pad(crowd(48, 10).instances, ((0, 8), (3, 0)))[5:, 4:] * 300,
        "none": np.zeros((20, 30), np.int32),
    }


def noisy(labels: np.ndarray, seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """(object probability (H, W), hardly two equal; distances float32 (32, H, W) > 0), smooth noise added to both."""
    rng = np.random.default_rng(seed)
    error = ndimage.gaussian_filter(rng.normal(0, 1, (33, *labels.shape)), (0, 1, 1))
    prob = object_probability(labels) + 0.05 * noise * error[0] + rng.uniform(0, 1e-3, labels.shape)
    dist = star_distances(labels) + noise * error[1:]
    return prob.astype(np.float32), np.maximum(dist, 1e-3).astype(np.float32)

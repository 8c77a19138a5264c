"""Which training images are drawn how often: CellViT's weighting by tissue and by nucleus class.

Hörst et al. 2024; CellVTA uses it on PanNuke with strategy "cell+tissue" and gamma 0.85. gamma 0 makes all
images equal, gamma 1 weights by the inverse frequency.
"""

from collections.abc import Sequence

import numpy as np

from benchmark.runtime.errors import InputError, near_miss

STRATEGIES = ("random", "cell", "tissue", "cell+tissue")

# Constants of the published code for PanNuke's classes in order (neoplastic, inflammatory, connective, dead,
# epithelial) and images of its tissues: fixed there whatever the fold.
PANNUKE_FACTORS = (4191, 4132, 6140, 232, 1528)
PANNUKE_TISSUES = {
    "Adrenal_gland": 437,
    "Bile-duct": 420,
    "Bladder": 146,
    "Breast": 2351,
    "Cervix": 293,
    "Colon": 1440,
    "Esophagus": 424,
    "HeadNeck": 384,
    "Kidney": 134,
    "Liver": 224,
    "Lung": 184,
    "Ovarian": 146,
    "Pancreatic": 195,
    "Prostate": 182,
    "Skin": 187,
    "Stomach": 146,
    "Testis": 196,
    "Thyroid": 226,
    "Uterus": 186,
}


def weights(
    tissues: list[str],
    counts: np.ndarray,
    strategy: str = "cell+tissue",
    gamma: float = 0.85,
    factors: str | Sequence[float] | None = None,
    tissue_counts: dict[str, int] | None = None,
) -> np.ndarray:
    """Sampling weight of each training image, not normalised to a sum.

    Args:
        tissues: (N,) tissue name of each image.
        counts: (N, C) integers, nuclei of each class in each image.
        strategy: "random" (all 1), "cell", "tissue", or "cell+tissue" (both, each divided by its maximum,
            added).
        gamma: 0..1.
        factors: how frequent each class is: C numbers, or None for the number of these images that contain
            the class; "pannuke" for the published constants of classes and tissues.
        tissue_counts: how frequent each tissue is; None (and tissues it does not name): these images.

    Returns:
        float64 (N,).

    Raises:
        InputError: unknown strategy or factors, gamma outside 0..1, lengths that do not agree.

    A class weighs K / (gamma f + (1 - gamma) K), K the sum of all f; an image (1 - gamma) max(present) +
    gamma sum(present * class weights), and one without nuclei the smallest weight other than 0. A tissue
    weighs k / (gamma n + (1 - gamma) k), n its count, k the sum of all counts.
    """
    counts = np.asarray(counts)
    if strategy not in STRATEGIES:
        hint = near_miss(strategy, STRATEGIES)
        raise InputError(f"Unknown sampling strategy '{strategy}'; known are {', '.join(STRATEGIES)}.{hint}")
    if not 0 <= gamma <= 1:
        raise InputError(f"The sampling strength gamma is {gamma}; expected a number from 0 to 1.")
    if counts.ndim != 2 or len(counts) != len(tissues):
        raise InputError(
            f"Sampling needs one row of class counts per image; found counts of shape {counts.shape} "
            f"for {len(tissues)} images."
        )
    if strategy == "random" or not len(counts):
        return np.ones(len(counts))
    if factors == "pannuke" and tissue_counts is None:
        tissue_counts = PANNUKE_TISSUES
    if strategy == "tissue":
        return tissue_weights(tissues, gamma, tissue_counts)
    cell = cell_weights(counts, gamma, factors)
    if strategy == "cell":
        return cell
    tissue = tissue_weights(tissues, gamma, tissue_counts)
    return tissue / tissue.max() + cell / cell.max()


def tissue_weights(tissues: list[str], gamma: float, tissue_counts: dict[str, int] | None = None) -> np.ndarray:
    """float64 (N,): weight of each image by the frequency of its tissue."""
    names, which, n = np.unique(np.asarray(tissues), return_inverse=True, return_counts=True)
    counts = {str(name): int(k) for name, k in zip(names, n)} | (tissue_counts or {})
    total = sum(counts.values())
    frequency = np.array([counts[str(name)] for name in names], np.float64)
    return (total / (gamma * frequency + (1 - gamma) * total))[which]


def cell_weights(counts: np.ndarray, gamma: float, factors: str | Sequence[float] | None = None) -> np.ndarray:
    """float64 (N,): weight of each image by the classes it contains; ones where no image contains any."""
    present = np.asarray(counts) > 0
    total = _frequencies(present, factors)
    frequency = gamma * total + (1 - gamma) * total.sum()
    # a class that no image contains has no frequency and no influence
    rarity = np.divide(total.sum(), frequency, out=np.zeros_like(total), where=frequency > 0)
    image = (1 - gamma) * present.any(1) + gamma * (present * rarity).sum(1)
    positive = image[image > 0]
    return np.where(image > 0, image, positive.min()) if len(positive) else np.ones(len(image))


def _frequencies(present: np.ndarray, factors: str | Sequence[float] | None) -> np.ndarray:
    classes = present.shape[1]
    if factors is None:
        return present.sum(0).astype(np.float64)
    if isinstance(factors, str):
        if factors != "pannuke":
            raise InputError(f"Sampling factors are '{factors}'; expected 'pannuke' or one number per class.")
        factors = PANNUKE_FACTORS
    if len(factors) != classes:
        raise InputError(f"Sampling has {len(factors)} class factors, the images count {classes} classes.")
    return np.asarray(factors, np.float64)


def draws(image_weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw images with replacement, each with probability proportional to its weight.

    Args:
        image_weights: (N,) weights >= 0, not all 0.
        n: number of draws.
        rng: the only source of randomness.

    Returns:
        int64 (n,) positions of images.

    Raises:
        InputError: weights that are empty, negative, not finite or all 0.
    """
    image_weights = np.asarray(image_weights, np.float64)
    total = image_weights.sum() if len(image_weights) else 0.0
    if not (np.isfinite(total) and total > 0 and image_weights.min() >= 0):
        raise InputError("Sampling weights must be finite, at least 0 and not all 0; found others or none.")
    edges = np.cumsum(image_weights)
    places = np.searchsorted(edges, rng.random(n) * edges[-1], side="right")
    # the product may round up to the last edge itself
    return np.minimum(places, np.flatnonzero(image_weights)[-1]).astype(np.int64)

"""Smooth curves of PQ and recall against the size, or the crowding, of nuclei, with a bootstrap band."""

import numpy as np
import pandas as pd

from .records import Records
from .sizes import column

BANDWIDTH = 0.75  # um


def size_curve(records: Records, **options) -> pd.DataFrame:
    """`curve` against the equivalent diameter."""
    return curve(records, "d_um", **options)


def crowding_curve(records: Records, **options) -> pd.DataFrame:
    """`curve` against the distance to the nearest neighbour of the same side; a nucleus alone takes no part."""
    return curve(records, "neighbour_um", **options)


def curve(
    records: Records,
    by: str,
    *,
    grid=None,
    bandwidth: float = BANDWIDTH,
    border: bool = True,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """PQ, DQ, SQ and recall as functions of a nucleus' size or crowding, pooled over images.

    Each nucleus weighs exp(-(v - x)^2 / 2 bandwidth^2) at the grid point x, where v is its own value: that of the true
    nucleus for pairs and misses, of the prediction for false positives; then PQ(x) = sum w IoU /
    (sum w tp + sum w fp / 2 + sum w fn / 2), recall(x) = sum w tp / (sum w tp + sum w fn). The band is the percentile
    bootstrap over sources (slides or patients; images where the source is not known), the whole curve recomputed.

    Args:
        by: "d_um" or "neighbour_um".
        grid: values in um, ascending; None takes 40 points from the 2 % to the 98 % quantile of the true nuclei.
        bandwidth: um.
        border: False leaves out nuclei that touch the image edge.
        resamples: 0 gives no band (NaN).
        level: coverage of the band.

    Returns:
        A row per grid point: x, n (sum of the weights of true nuclei), PQ, DQ, SQ, recall, and PQ_low, PQ_high,
        recall_low, recall_high. NaN where nothing has weight. No rows without true nuclei and without a grid.

    Raises:
        ValueError: unknown `by`, bandwidth not positive, level outside (0, 1), records of an older version.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected a number inside (0, 1)")
    if grid is None:
        grid = default_grid([records], by)
    grid = np.asarray(grid, np.float64)
    names, sums = cluster_sums(records, by, grid, bandwidth=bandwidth, border=border)
    n_clusters = len(names)
    out = curve_scores(sums.sum(0))
    drawn = {}
    if resamples and n_clusters:
        random = np.random.default_rng(seed)
        draws = random.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), resamples)
        drawn = curve_scores(np.tensordot(draws, sums, 1).transpose(1, 0, 2))
    tails = [(1 - level) / 2, (1 + level) / 2]
    for name in ("PQ", "recall"):
        low, high = _quantiles(drawn[name], tails) if drawn else np.full((2, len(grid)), np.nan)
        out |= {f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame({"x": grid, **out})


def default_grid(many: list[Records], by: str, points: int = 40) -> np.ndarray:
    """Points from the 2 % to the 98 % quantile of the true nuclei of all records; empty without any."""
    true = [r.nuclei.loc[(r.nuclei["side"] == "true").to_numpy()] for r in many]
    values = np.concatenate([np.zeros(0), *(column(nuclei, by).astype(np.float64) for nuclei in true)])
    values = values[np.isfinite(values)]
    return np.linspace(*np.quantile(values, [0.02, 0.98]), points) if len(values) else np.zeros(0)


def cluster_sums(
    records: Records, by: str, grid: np.ndarray, *, bandwidth: float = BANDWIDTH, border: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(names of the clusters, float64 (clusters, 4, len(grid)): weighted sums of tp, fp, fn and IoU); see `curve`.

    Sums of several records may be added cluster by cluster; the same draws for two methods make their difference
    paired.
    """
    if by not in ("d_um", "neighbour_um"):
        raise ValueError(f"by is '{by}', expected 'd_um' or 'neighbour_um'")
    if not bandwidth > 0:
        raise ValueError(f"bandwidth is {bandwidth} um, expected a positive number")
    nuclei = records.nuclei
    value = column(nuclei, by).astype(np.float64)
    true, paired = (nuclei["side"] == "true").to_numpy(), (nuclei["match"] > 0).to_numpy()
    kept = np.isfinite(value) & (true | ~paired) & (border | ~nuclei["border"].to_numpy())
    value, true, paired = value[kept], true[kept], paired[kept]
    iou = nuclei["iou"].to_numpy()[kept]
    names, cluster = _clusters(records)
    cluster = cluster[np.searchsorted(records.images["image"], nuclei["image"].to_numpy()[kept])]
    counts = np.stack([true & paired, ~true, true & ~paired]).astype(np.float64)
    parts = np.concatenate([counts, (iou * counts[0])[None]])  # tp, fp, fn, sum of IoU
    sums = np.zeros((len(names), 4, len(grid)))
    for i, x in enumerate(grid):
        weight = parts * np.exp(-0.5 * ((value - x) / bandwidth) ** 2)
        for k in range(4):
            sums[:, k, i] = np.bincount(cluster, weights=weight[k], minlength=len(names))
    return names, sums


def curve_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """From (4, ...) sums of tp, fp, fn, IoU."""
    tp, fp, fn, iou = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        nuclei = tp + fp / 2 + fn / 2
        scores = {"PQ": iou / nuclei, "DQ": tp / nuclei, "SQ": iou / tp, "recall": tp / (tp + fn)}
    return {"n": tp + fn} | scores


def _quantiles(values: np.ndarray, at: list[float]) -> np.ndarray:
    """Quantiles over the first axis without NaN; NaN where no draw has a value."""
    out = np.full((len(at), values.shape[1]), np.nan)
    some = ~np.isnan(values).all(0)
    if some.any():
        out[:, some] = np.nanquantile(values[:, some], at, axis=0)
    return out


def _clusters(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """(names, cluster of each image): its source, or the image itself where the source is not known."""
    source = records.images["source"].astype(str).to_numpy()
    name = np.where(source != "", "s" + source, "i" + records.images["image"].astype(str).to_numpy())
    names, cluster = np.unique(name.astype(str), return_inverse=True)
    return names, cluster

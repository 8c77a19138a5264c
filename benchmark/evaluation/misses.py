"""Why true nuclei were missed: by the network, or by the post-processing of its maps.

Kept maps of the HV family show what the network proposed, their decoding what became of it.
"""

from itertools import pairwise

import numpy as np
import pandas as pd

from benchmark.evaluation.scoring import score_image
from benchmark.metrics.sizes import EDGES
from benchmark.postproc.hv import HVSettings, decode_hv
from benchmark.postproc.watershed import foreground
from benchmark.results.raw_maps import StoredMaps
from benchmark.runtime.errors import InputError

WEAK = 0.2  # probability of nucleus from which a network has seen something
FATES = ("found", "not proposed", "below the threshold", "removed", "merged", "split", "other outline")


def fates(
    truth: np.ndarray, probability: np.ndarray, proposed: np.ndarray, decoded: np.ndarray, matched: np.ndarray
) -> np.ndarray:
    """What became of each true nucleus.

    A nucleus can only be found (IoU > 0.5) where more than half of it survives each stage, so the first stage after
    which less than half of it is left is where it was lost:

    - not proposed: less than half of it has a probability of at least WEAK;
    - below the threshold: it has, but less than half of it is above the decoder's threshold;
    - removed: more is above it, but less than half of it lies in decoded nuclei (opening, smallest sizes);
    - merged: at least half of it lies in one decoded nucleus that holds at least half of another true nucleus too;
    - split: no decoded nucleus holds half of it;
    - other outline: one does, and its outline differs too much.

    Args:
        truth: (H, W) ids 1..N.
        probability: (H, W) of nucleus, in [0, 1].
        proposed: bool (H, W) nucleus pixels before any further step of the decoder.
        decoded: (H, W) decoded ids.
        matched: bool (N,) nuclei with a partner of IoU > 0.5.

    Returns:
        (N,) positions in FATES.
    """
    count = len(matched)
    area = np.bincount(truth.ravel(), minlength=count + 1)[1:]

    def share(mask: np.ndarray) -> np.ndarray:
        return np.bincount(truth[mask], minlength=count + 1)[1:] / np.maximum(area, 1)

    width = int(decoded.max(initial=0)) + 1
    joint = np.bincount((truth.astype(np.int64) * width + decoded).ravel(), minlength=(count + 1) * width)
    held = joint.reshape(count + 1, width)[1:, 1:] / np.maximum(area, 1)[:, None]
    best = held.max(1, initial=0.0)
    halves = (held >= 0.5).sum(0)  # per decoded nucleus: of how many true ones it holds at least half
    shared = ((held >= 0.5) & (halves > 1)).any(1)
    tests = [
        matched,
        share(probability >= WEAK) < 0.5,
        share(proposed) < 0.5,
        share(decoded > 0) < 0.5,
        shared,
        best < 0.5,
        np.ones(count, bool),
    ]
    return np.argmax(np.stack(tests), 0)


def count(maps: StoredMaps, truths, settings: HVSettings, progress=None) -> pd.DataFrame:
    """Nuclei of each fate in each size bin (equivalent diameter, `metrics.sizes.EDGES` in µm) of a run's kept maps.

    Args:
        truths: `truths[i]` gives image i's true Nuclei.
        settings: what the run decodes with.
        progress: called with (images done, images in all).

    Returns:
        A row per bin ("<4", …, ">=8") and fate: bin, fate, n.

    Raises:
        InputError: maps of another family, or of tiles.
    """
    if not {"np", "hv"} <= set(maps.names):
        raise InputError(f"the kept maps are {', '.join(maps.names)}; expected np and hv, as HV methods have them.")
    table = np.zeros((len(EDGES) + 1, len(FATES)), np.int64)
    for done, image in enumerate(maps.images, 1):
        stored, truth = maps.read(image), truths[image]
        if stored["np"].ndim != 3:
            raise InputError(f"image {image} was predicted in tiles; misses are told for whole images alone.")
        nuclei = decode_hv(stored["np"], stored["hv"], None, settings, truth.mpp)
        true = score_image(image, truth, nuclei, False, shapes=False).match.true
        matched = np.zeros(len(truth.types), bool)
        matched[true.id[true.partner > 0] - 1] = True
        of_nucleus = fates(
            truth.instances, probability(stored["np"]), foreground(stored["np"], settings), nuclei.instances, matched
        )
        area = np.bincount(truth.instances.ravel(), minlength=len(matched) + 1)[1:]
        size = np.digitize(2 * np.sqrt(area / np.pi) * truth.mpp, EDGES)
        np.add.at(table, (size, of_nucleus), 1)
        if progress:
            progress(done, len(maps.images))
    names = [f"<{EDGES[0]:g}", *(f"{a:g}-{b:g}" for a, b in pairwise(EDGES)), f">={EDGES[-1]:g}"]
    cells = [(name, fate, int(table[b, f])) for b, name in enumerate(names) for f, fate in enumerate(FATES)]
    return pd.DataFrame(cells, columns=["bin", "fate", "n"])


def probability(np_map: np.ndarray) -> np.ndarray:
    """(H, W) probability of nucleus from (2, H, W) logits."""
    return 1 / (1 + np.exp(np.clip(np_map[0] - np_map[1], -80, 80)))

"""StarDist: each pixel's probability of being deep in a nucleus and its distances to the edge along 32 rays.

Schmidt et al. 2018; Weigert and Schmidt 2022. Targets, suppression and painting are those of the authors' package
(`stardist` 0.9, BSD-3), see `postproc.star_distances` and `postproc.star_polygons`; the network is the method's own, at
full resolution (the package's `grid` is (1, 1)).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit, logit

from benchmark.data.nuclei import Nuclei
from benchmark.postproc.instances import renumber
from benchmark.postproc.settings import Settings
from benchmark.postproc.star_distances import RAYS, object_probability, star_distances
from benchmark.postproc.star_polygons import paint, suppress
from benchmark.representations.base import Representation, logits, typed

LEAST = 1e-3  # pixels: smaller distances are this one, as in the package
CERTAIN = 10.0  # logit of the ideal maps where the probability is 0 or 1


@dataclass(frozen=True)
class StarSettings(Settings):
    """Numbers of the decoding; the package's defaults.

    Attributes:
        probability: a polygon begins at pixels of more than this object probability.
        overlap: a polygon goes that overlaps a more probable one by more than this share of the smaller one's area.
        border: pixels closer than this to the image's edge begin none.
    """

    probability: float = 0.5
    overlap: float = 0.4
    border: int = 2

    def __post_init__(self):
        self.check_share("probability", "overlap")
        self.check_count("border")


@dataclass(frozen=True)
class StarDist(Representation):
    """Raw maps: prob (1, H, W) logit of the object probability, dist (32, H, W) distances in pixels."""

    name: ClassVar[str] = "stardist"

    def channels(self) -> dict[str, int]:
        return {"prob": 1, "dist": RAYS}

    def settings(self, mpp: float) -> StarSettings:
        return StarSettings()

    def targets(self, nuclei: Nuclei) -> dict[str, np.ndarray]:
        """prob float32 (H, W) in 0..1, dist float32 (32, H, W) pixels, tp uint8 (H, W) class ids."""
        return {
            "prob": object_probability(nuclei.instances),
            "dist": star_distances(nuclei.instances),
            "tp": nuclei.pixel_types().astype(np.uint8),
        }

    def ideal(self, targets: dict[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
        with np.errstate(divide="ignore"):
            prob = logit(targets["prob"])[None].clip(-CERTAIN, CERTAIN).astype(np.float32)
        maps = {"prob": prob, "dist": targets["dist"].astype(np.float32)}
        return maps | ({"tp": logits(targets["tp"], classes + 1)} if classes else {})

    def decode(self, maps: dict[str, np.ndarray], mpp: float, settings: StarSettings | None = None) -> Nuclei:
        """Scores are object probabilities; ids go down with them."""
        chosen = settings or self.settings(mpp)
        prob = expit(maps["prob"][0])
        shape, edge = prob.shape, chosen.border
        inner = tuple(slice(edge, max(side - edge, edge)) for side in shape)
        centres = np.argwhere(prob[inner] > chosen.probability) + edge
        scores = prob[tuple(centres.T)]
        order = np.argsort(-scores, kind="stable")
        centres, scores = centres[order], scores[order]
        place = centres[:, 0] * shape[1] + centres[:, 1]
        distances = np.maximum(maps["dist"].reshape(-1, prob.size).take(place, 1), np.float32(LEAST))
        stay = suppress(distances, centres, chosen.overlap)
        painted = paint(distances[:, stay], centres[stay], shape)
        there = np.bincount(painted.ravel(), minlength=len(stay) + 1)[1:] > 0  # others cover the rest, or it is a line
        instances, n = renumber(painted)
        return typed(instances, n, maps.get("tp"), mpp, scores[stay][there])

"""Flows: each pixel's direction towards the centre of its nucleus, along which pixels gather (Cellpose).

Stringer et al. 2021; targets and decoding are those of the authors' package (`cellpose` 4.2, BSD-3), see
`postproc.flow_field`. The package resizes images to a common diameter of their objects before; here they stay as they
are.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit

from benchmark.data.nuclei import Nuclei
from benchmark.postproc.flow_field import agree, filled, flows, follow, gather
from benchmark.postproc.settings import Settings
from benchmark.representations.base import Representation, logits, typed

LENGTH = 5.0  # of a flow in the raw maps, as the package trains it
CERTAIN = 10.0  # logit of the ideal maps


@dataclass(frozen=True)
class FlowSettings(Settings):
    """Numbers of the decoding; the package's defaults.

    Attributes:
        level: pixels of a nucleus have a logit (`cellprob`) above this.
        steps: of the integration.
        error: nuclei go whose own flows differ by more than this mean squared length from the predicted; 0: none go.
        least: nuclei of fewer pixels go.
    """

    level: float = 0.0
    steps: int = 200
    error: float = 0.4
    least: int = 15

    def __post_init__(self):
        if type(self.level) not in (int, float) or not -20 <= self.level <= 20:
            raise ValueError(f"level is {self.level!r}, expected a logit in -20..20")
        if type(self.error) not in (int, float) or self.error < 0:
            raise ValueError(f"error is {self.error!r}, expected a number >= 0")
        self.check_count("steps", unit="steps")
        self.check_count("least")


@dataclass(frozen=True)
class Flows(Representation):
    """Raw maps: cellprob (1, H, W) logit of nucleus, flow (2, H, W) rows and columns, of length 5 inside of nuclei."""

    name: ClassVar[str] = "flows"

    def channels(self) -> dict[str, int]:
        return {"cellprob": 1, "flow": 2}

    def settings(self, mpp: float) -> FlowSettings:
        return FlowSettings()

    def targets(self, nuclei: Nuclei) -> dict[str, np.ndarray]:
        """cellprob uint8 (H, W) 0/1, flow float32 (2, H, W) unit vectors, tp uint8 (H, W) class ids."""
        return {
            "cellprob": (nuclei.instances > 0).astype(np.uint8),
            "flow": flows(nuclei.instances),
            "tp": nuclei.pixel_types().astype(np.uint8),
        }

    def ideal(self, targets: dict[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
        cellprob = np.where(targets["cellprob"], CERTAIN, -CERTAIN)[None].astype(np.float32)
        maps = {"cellprob": cellprob, "flow": (LENGTH * targets["flow"]).astype(np.float32)}
        return maps | ({"tp": logits(targets["tp"], classes + 1)} if classes else {})

    def decode(self, maps: dict[str, np.ndarray], mpp: float, settings: FlowSettings | None = None) -> Nuclei:
        """Scores are mean probabilities of nucleus."""
        chosen = settings or self.settings(mpp)
        cellprob, flow = maps["cellprob"][0], maps["flow"] / np.float32(LENGTH)
        inside = cellprob > chosen.level
        rows, columns = np.nonzero(inside)
        ends = follow(flow * inside, rows, columns, chosen.steps)
        instances = gather(ends, rows, columns, inside.shape)
        if chosen.error > 0:
            instances = agree(instances, flow, chosen.error)
        instances = filled(instances, chosen.least)
        n = int(instances.max(initial=0))
        area = np.bincount(instances.ravel(), minlength=n + 1)
        scores = np.bincount(instances.ravel(), expit(cellprob).ravel(), n + 1) / np.maximum(area, 1)
        return typed(instances, n, maps.get("tp"), mpp, scores[1:].clip(0, 1))

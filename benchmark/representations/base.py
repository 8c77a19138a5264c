"""What every instance representation is: maps from nuclei, and nuclei from maps."""

from typing import ClassVar

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.postproc.instances import vote
from benchmark.postproc.settings import Settings


class Representation:
    """Base class: a small value without a network, picklable, of numpy alone.

    Attributes:
        name: what `instances=` calls it.
    """

    name: ClassVar[str] = ""

    def channels(self) -> dict[str, int]:
        """Name -> channels of the raw maps that hold the instances; types and tissue have maps of their own."""
        raise NotImplementedError

    def heads(self, classes: int) -> dict[str, int]:
        """Name -> channels of all raw maps: those of `channels`, and tp where there are `classes`."""
        return self.channels() | ({"tp": classes + 1} if classes else {})

    def branches(self, classes: int) -> dict[str, int]:
        """Name -> channels of what a decoder predicts, from which a method's torch part makes the raw maps."""
        return self.heads(classes)

    def settings(self, mpp: float) -> Settings:
        """The published settings of `decode` at `mpp` micrometres per pixel; `updated(changes)` replaces some."""
        raise NotImplementedError

    def targets(self, nuclei: Nuclei) -> dict[str, np.ndarray]:
        """What a network learns of one crop, e.g. np uint8 (H, W), hv float32 (2, H, W), tp uint8 (H, W)."""
        raise NotImplementedError

    def ideal(self, targets: dict[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
        """The raw maps of one image that a perfect network would give for `targets`.

        Args:
            classes: nucleus types without background; 0: no type map.
        """
        raise NotImplementedError

    def condensed(self, maps: dict) -> dict:
        """Of raw maps what `decode` needs for the same nuclei: less to copy from a GPU and to other processes.

        Args:
            maps: floating torch tensors (..., C, H, W) on any device. What is not finite in them is not finite, or
                below 0 where the result holds integers, in the result too.

        Returns:
            Tensors on the same device, of maps that numpy has a dtype for; here all maps as they are.
        """
        return maps

    def decode(self, maps: dict[str, np.ndarray], mpp: float, settings=None) -> Nuclei:
        """One image's raw maps (C, H, W) to nuclei; applies softmax, sigmoid or argmax itself.

        Args:
            maps: those of `channels`; tp (classes + 1, H, W) logits or absent; others are not looked at; or `condensed`
            mpp: micrometres per pixel.
            settings: as `settings` returns them; None: those.
        """
        raise NotImplementedError


def logits(labels: np.ndarray, classes: int, size: float = 10.0) -> np.ndarray:
    """float32 (classes, H, W): `size` for the label of a pixel, -`size` for all others."""
    return np.where(np.arange(classes)[:, None, None] == labels, size, -size).astype(np.float32)


def typed(instances: np.ndarray, n: int, tp: np.ndarray | None, mpp: float, scores: np.ndarray) -> Nuclei:
    """Nuclei with the type of most of their pixels.

    Args:
        instances: (H, W) ids 0..n.
        tp: (classes + 1, H, W) logits; None: no types.
        scores: (n,) in 0..1.
    """
    scores = scores.astype(np.float32)
    types = np.zeros(n, np.uint8) if tp is None else vote(instances, tp.argmax(0), n)[0]
    return Nuclei(instances, types, float(mpp), scores)

"""HV maps: each pixel's horizontal and vertical distance from its nucleus's centre, decoded by a watershed.

Graham et al. 2019 (HoVer-Net); CellViT and CellVTA have them too, with other numbers.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from skimage.measure import label

from benchmark.data.nuclei import Nuclei
from benchmark.postproc.hv import HVSettings, decode_hv, hv_targets
from benchmark.representations.base import Representation, logits


@dataclass(frozen=True)
class HV(Representation):
    """As CellViT and CellVTA have it. Raw maps: np (2, H, W) logits, hv (2, H, W) distances x, y in -1..1."""

    name: ClassVar[str] = "hv"
    logit: ClassVar[float] = 10.0  # of the ideal maps

    def channels(self) -> dict[str, int]:
        return {"np": 2, "hv": 2}

    def settings(self, mpp: float) -> HVSettings:
        """CellViT's for the nearer of the two published resolutions."""
        return HVSettings.for_mpp(mpp)

    def targets(self, nuclei: Nuclei) -> dict[str, np.ndarray]:
        """np uint8 (H, W) 0/1, hv float32 (2, H, W), tp uint8 (H, W) class ids."""
        return self._maps(nuclei, hv_targets(nuclei.instances))

    def ideal(self, targets: dict[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
        """Logits of +-`logit`, the distances as they are."""
        maps = {"np": logits(targets["np"], 2, self.logit), "hv": targets["hv"].astype(np.float32)}
        return maps | ({"tp": logits(targets["tp"], classes + 1, self.logit)} if classes else {})

    def condensed(self, maps: dict) -> dict:
        """np float16 (..., H, W): 1, 0.5 or 0 where the logit of nucleus is above, at or below the other one, so that
        either threshold of `HVSettings` can be asked for; hv float32; tp int16 (..., H, W), the first of the largest.

        A decoding of a plug-in's own gets the maps as they are: it may look at more.
        """
        if type(self).decode is not HV.decode:
            return maps
        other, nucleus = maps["np"][..., 0, :, :], maps["np"][..., 1, :, :]
        share = ((nucleus > other).half() + (nucleus >= other).half()) / 2
        out = {"np": share.masked_fill(~(other.isfinite() & nucleus.isfinite()), np.nan), "hv": maps["hv"].float()}
        if "tp" in maps:
            largest, types = maps["tp"].max(-3)  # of equal ones the first; argmax takes a CPU six times as long
            finite = largest.isfinite() & maps["tp"].amin(-3).isfinite()
            out["tp"] = types.short().masked_fill(~finite, -1)
        return out

    def decode(self, maps: dict[str, np.ndarray], mpp: float, settings: HVSettings | None = None) -> Nuclei:
        return decode_hv(maps["np"], maps["hv"], maps.get("tp"), settings or self.settings(mpp), mpp)

    def _maps(self, nuclei: Nuclei, hv: np.ndarray) -> dict[str, np.ndarray]:
        foreground = (nuclei.instances > 0).astype(np.uint8)
        return {"np": foreground, "hv": hv, "tp": nuclei.pixel_types().astype(np.uint8)}


@dataclass(frozen=True)
class HoVerNetHV(HV):
    """As HoVer-Net has it: pieces of a nucleus are nuclei of their own, the same watershed at any resolution."""

    logit: ClassVar[float] = 8.0

    def settings(self, mpp: float) -> HVSettings:
        return HVSettings.hovernet()

    def targets(self, nuclei: Nuclei, patch: Nuclei | None = None) -> dict[str, np.ndarray]:
        """As `HV.targets`. patch: of which `nuclei` is the centre, when its rim counts as published."""
        if patch is None:
            return self._maps(nuclei, hv_targets(label(nuclei.instances, background=0, connectivity=1)))
        return self._maps(nuclei, hv_targets(patch.instances, "hovernet", nuclei.instances.shape))

"""CPP-Net's polygons: StarDist's, whose distances are refined by what the network sees along each ray.

Chen et al. 2023, "CPP-Net: Context-aware Polygon Proposal Network for Nucleus Segmentation". Targets and decoding are
StarDist's; the refinement is torch and stands in `layers.instance_maps.cpp_maps`, which says what was decided here.
Without the paper's loss of shapes, which needs another trained network.
"""

from dataclasses import dataclass
from typing import ClassVar

from benchmark.postproc.star_distances import RAYS
from benchmark.representations.stardist import StarDist


@dataclass(frozen=True)
class CPP(StarDist):
    """Raw maps as StarDist's: prob (1, H, W) logit, dist (32, H, W) refined distances in pixels."""

    name: ClassVar[str] = "cpp"

    def branches(self, classes: int) -> dict[str, int]:
        """A confidence for each ray too, by which distances that points along it give are weighted."""
        return self.channels() | {"confidence": RAYS} | ({"tp": classes + 1} if classes else {})

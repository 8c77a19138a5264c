"""A patch while it is drawn: amounts of stain, regions, and the nuclei with their exact masks."""

import numpy as np

from benchmark.data.drawing import texture
from benchmark.data.drawing.nucleus_shapes import CLASSES, KINDS, chromatin, outline
from benchmark.data.drawing.tissue_profiles import Look

GLASS, STROMA, EPITHELIUM = 0, 1, 2


class Canvas:
    """Square of `side` px.

    Attributes:
        h, e: float32 amounts of haematoxylin and eosin, 1 = a typical nucleus, typical stroma.
        dye: float32 (side, side, 3) further optical density, or None.
        region: uint8 GLASS, STROMA or EPITHELIUM.
        instances: int32, ids in order of drawing; types: one class id (from 1) per instance.
        seats: places where motifs want nuclei: (class, y, x, angle).
    """

    def __init__(self, rng: np.random.Generator, side: int, look: Look):
        self.rng, self.side, self.look = rng, side, look
        self.region = np.full((side, side), STROMA, np.uint8)
        self.fibres = texture.Fibres(rng, side, look.waviness)
        self.h, self.e = self._stroma()
        self.dye = None
        self.instances = np.zeros((side, side), np.int32)
        self.types: list[int] = []
        self.areas: list[int] = [0]
        self.seats: list[tuple[str, float, float, float]] = []

    def _stroma(self) -> tuple[np.ndarray, np.ndarray]:
        rng = self.rng
        side = self.side
        coarse, fine = self.fibres.streaks(4.0, 5.0), self.fibres.streaks(1.0, 16.0)
        broad, medium = texture.window(rng, 32.0, side, side), texture.window(rng, 8.0, side, side)
        grain = texture.window(rng, 1.0, side, side) + texture.window(rng, 2.0, side, side)
        loose = rng.uniform(0.0, 0.9)
        fibrous = rng.uniform(0.5, 1.3) * (1 + 0.4 * medium)
        e = 1.0 + fibrous * (0.13 * coarse + 0.13 * fine) + 0.15 * broad + 0.1 * medium + 0.09 * grain
        # clefts between the bundles show glass
        cleft = coarse + 0.5 * fine + 0.9 * medium - 3.2 + 2.5 * loose + 0.15 * grain
        cleft = 0.9 / (1 + np.exp(-4 * cleft))
        blue = self.look.basophilia * np.clip(0.35 * coarse + 0.3 * fine + 0.5 * medium + 0.6 * broad, 0, 1.6)
        h = (0.15 + 0.04 * fine + 0.06 * broad + 0.03 * grain + blue) * (1 - 0.8 * cleft)
        return np.clip(h, 0, None), np.clip(e * (1 - cleft), 0.02, None)

    def paint(self, weight: np.ndarray, h: np.ndarray | float, e: np.ndarray | float) -> None:
        """Blend amounts over the canvas with weight float32 (side, side) in [0, 1]."""
        self.h += weight * (h - self.h)
        self.e += weight * (e - self.e)

    def seat(self, name: str, y: float, x: float, angle: float | None = None) -> None:
        self.seats.append((name, y, x, self.rng.uniform(0, np.pi) if angle is None else angle))

    def fill_seats(self) -> None:
        """Draw the nuclei that were asked for, in random order; those that do not fit are left out."""
        for k in self.rng.permutation(len(self.seats)):
            self.place(*self.seats[k])
        self.seats = []

    def place(self, name: str, y: float, x: float, angle: float) -> bool:
        """Draw one nucleus over what is there, unless it would hide too much of a neighbour."""
        rng, look, kind = self.rng, self.look, KINDS[name]
        mean, sd = kind.log_area
        if name == "Neoplastic":
            sd = 0.25 + 0.4 * look.grade
        area = float(np.exp(np.clip(rng.normal(mean + look.size, sd), 3.2, 8.0)))
        ratio = 1 + (kind.axis_ratio - 1) * rng.lognormal(0, 0.4)
        shape = outline(rng, y, x, area, ratio, angle, kind)
        height, width = shape.depth.shape
        top, left = max(shape.top, 0), max(shape.left, 0)
        bottom, right = min(shape.top + height, self.side), min(shape.left + width, self.side)
        if bottom - top < 2 or right - left < 2:
            return False
        here = (slice(top, bottom), slice(left, right))
        inner = (slice(top - shape.top, bottom - shape.top), slice(left - shape.left, right - shape.left))
        depth = shape.depth[inner]
        mask, below = depth > 0, self.instances[here]
        if not mask.any() or self._hides_too_much(mask, depth, below):
            return False
        styles = list(kind.styles)
        style = styles[int(np.searchsorted(np.cumsum(list(kind.styles.values()))[:-1], rng.random(), "right"))]
        nucleoli = kind.nucleoli * (0.4 + 1.2 * look.grade if name == "Neoplastic" else 1.0)
        density, cover = chromatin(rng, shape, style, nucleoli, look.openness)
        density, cover = density[inner], cover[inner]
        h, e = self.h[here], self.e[here]
        self._surround(name, depth, h, e)
        overlap = (below > 0) & mask
        h += cover * (density + np.where(overlap, 0.25, 0.08) * h - h)
        e *= 1 - 0.6 * cover
        self.types.append(CLASSES.index(name) + 1)
        below[mask] = len(self.types)
        self.areas.append(int(mask.sum()))
        return True

    def _hides_too_much(self, mask: np.ndarray, depth: np.ndarray, below: np.ndarray) -> bool:
        rng, crowding = self.rng, self.look.crowding
        if rng.random() > 0.25 + 2.2 * crowding:
            return bool(below[depth > -rng.uniform(1.5, 4.0)].any())
        covered = below[mask]
        covered = covered[covered > 0]
        if not covered.size:
            return False
        ids, counts = np.unique(covered, return_counts=True)
        own = np.count_nonzero(mask)
        limit = crowding * np.minimum(np.take(self.areas, ids), own)
        return bool((counts > limit).any())

    def _surround(self, name: str, depth: np.ndarray, h: np.ndarray, e: np.ndarray) -> None:
        """Cytoplasm near the nucleus: red and shrunken about dead cells, a clear cleft about others."""
        rng = self.rng
        if name == "Dead":
            body = np.clip((depth + 7) / 3, 0, 1)
            e += body * (1.7 - e)
            h *= 1 - 0.6 * body
            halo = np.exp(-(((depth + 9.0) / 2.0) ** 2)) * rng.uniform(0.1, 0.8)
        elif rng.random() < 0.16:
            uneven = 0.5 + 0.5 * texture.window(rng, 8.0, *depth.shape)
            halo = np.exp(-(((depth + 2.5) / 1.8) ** 2)) * np.clip(rng.uniform(0.2, 0.9) * uneven, 0, 0.85)
        else:
            return
        h *= 1 - halo
        e *= 1 - halo

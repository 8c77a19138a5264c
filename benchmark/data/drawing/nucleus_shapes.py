"""Form and chromatin of single nuclei.

A nucleus is an ellipse whose radius is perturbed by a few low harmonics, bent along its axis; its chromatin
has one of a few styles that pathologists name.
"""

from dataclasses import dataclass

import numpy as np

from benchmark.data.drawing import texture

CLASSES = ("Neoplastic", "Inflammatory", "Connective", "Dead", "Epithelial")
_STEPS = 256
_ORDERS = np.arange(2, 7)
_ANGLES = np.arange(_STEPS) * (2 * np.pi / _STEPS)
_COS, _SIN = np.cos(_ORDERS[:, None] * _ANGLES), np.sin(_ORDERS[:, None] * _ANGLES)


@dataclass(frozen=True)
class Kind:
    """How nuclei of a class look. log_area: mean, sd of ln(px) at 0.25 µm/px; styles: name -> probability."""

    log_area: tuple[float, float]
    axis_ratio: float
    roughness: float
    bend: float
    nucleoli: float
    styles: dict[str, float]


KINDS = {
    "Neoplastic": Kind(
        (6.3, 0.5), 1.45, 0.055, 0.1, 0.55, {"vesicular": 0.5, "clumped": 0.25, "dark": 0.13, "pale": 0.12}
    ),
    "Inflammatory": Kind((5.3, 0.33), 1.2, 0.045, 0.05, 0.05, {"clumped": 0.65, "dark": 0.3, "pale": 0.05}),
    "Connective": Kind((5.4, 0.5), 2.5, 0.05, 0.35, 0.08, {"fine": 0.5, "dark": 0.38, "pale": 0.12}),
    "Dead": Kind((5.15, 0.45), 1.3, 0.08, 0.1, 0.0, {"pyknotic": 1.0}),
    "Epithelial": Kind(
        (5.9, 0.38), 1.45, 0.04, 0.06, 0.25, {"vesicular": 0.45, "fine": 0.35, "pale": 0.1, "dark": 0.1}
    ),
}

# style -> amount of haematoxylin, share of it left in the centre, strength of clumps, scale of clumps
_STYLES = {
    "vesicular": (0.92, 0.36, 0.40, 2.0),
    "fine": (0.92, 0.75, 0.32, 1.0),
    "clumped": (1.10, 0.78, 0.42, 2.0),
    "dark": (1.45, 0.92, 0.20, 2.0),
    "pale": (0.56, 0.50, 0.34, 1.0),
    "pyknotic": (1.75, 1.00, 0.08, 2.0),
}


@dataclass(frozen=True)
class Outline:
    """A nucleus in its window. depth: float32 (h, w), px inside the border, negative outside."""

    top: int
    left: int
    depth: np.ndarray
    radius: float

    @property
    def mask(self) -> np.ndarray:
        return self.depth > 0


def outline(
    rng: np.random.Generator, y: float, x: float, area: float, ratio: float, angle: float, kind: Kind
) -> Outline:
    """Outline of a nucleus about (y, x).

    Args:
        area: px. ratio: major / minor axis. angle: of the major axis, radians from the row axis (x).
        kind: gives roughness and bend.
    """
    minor = float(np.sqrt(area / (np.pi * ratio)))
    major = minor * ratio
    rough = kind.roughness * rng.lognormal(0, 0.4)
    weights = rough / (_ORDERS - 1.0) ** 0.7
    radius = 1 + (rng.standard_normal(5) * weights) @ _COS + (rng.standard_normal(5) * weights) @ _SIN
    radius = np.clip(radius, 0.55, 1.6)
    radius *= np.sqrt(1 / np.mean(radius**2))
    reach = int(np.ceil(major * 1.35)) + 4
    top, left = round(y) - reach, round(x) - reach
    line = np.arange(2 * reach + 1, dtype=np.float32)
    dy, dx = (line + (top - y))[:, None], (line + (left - x))[None, :]
    u = dx * np.cos(angle) + dy * np.sin(angle)
    v = dy * np.cos(angle) - dx * np.sin(angle)
    u /= major
    v /= minor
    bend = rng.normal(0, kind.bend) * min(ratio - 1, 1.5)
    v += bend * (u * u - 0.4)
    distance = np.sqrt(u * u + v * v) + 1e-6
    turn = (np.arctan2(v, u) * (_STEPS / (2 * np.pi))).astype(np.int32) % _STEPS
    border = radius.astype(np.float32)[turn]
    # local size of one unit of `distance` in px: the radius of the ellipse in this direction
    unit = minor * major * distance / np.sqrt((u * minor * major / major) ** 2 + (v * major) ** 2 + 1e-6)
    return Outline(top, left, (border - distance) * np.clip(unit, minor, major), float(np.sqrt(area / np.pi)))


def chromatin(
    rng: np.random.Generator, shape: Outline, style: str, nucleoli: float, openness: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Amount of haematoxylin over the window, and how much the nucleus covers it.

    Args:
        style: of `Kind.styles`. nucleoli: probability of any. openness: share of the centre's stain that the
            slide's vesicular and pale nuclei lack, 0..1.

    Returns:
        float32 (h, w) amount, 1 = typical nucleus; float32 (h, w) coverage in [0, 1], soft at the border.
    """
    amount, centre, clumps, scale = _STYLES[style]
    height, width = shape.depth.shape
    depth = shape.depth
    if style in ("vesicular", "pale"):
        centre *= 1 - openness
    amount *= rng.lognormal(0, 0.13)
    softness = rng.uniform(0.5, 1.1) if style != "pale" else rng.uniform(1.0, 2.2)
    cover = np.clip(depth / (2 * softness) + 0.5, 0, 1)
    rim = np.exp(-((np.clip(depth, 0, None) / (0.22 * shape.radius + 0.6)) ** 2))
    grain = texture.window(rng, scale, height, width) + 0.5 * texture.window(rng, 4.0, height, width)
    density = amount * (centre + (1 - centre) * rim + clumps * grain * (0.4 + 0.6 * (1 - rim)))
    if style in ("vesicular", "fine", "pale", "clumped"):
        density += 0.22 * amount * rim  # the membrane, seen edge-on
    if shape.radius > 6:
        for _ in range(int(rng.random() < nucleoli) * int(rng.integers(1, 4))):
            r = rng.uniform(1.2, 0.22 * shape.radius + 0.8)
            cy = height / 2 + rng.normal(0, 0.22) * shape.radius
            cx = width / 2 + rng.normal(0, 0.22) * shape.radius
            line = np.arange(height, dtype=np.float32)
            spot = np.exp(-(((line - cy) / r) ** 2))[:, None] * np.exp(-(((line - cx) / r) ** 2))[None, :]
            density += 0.75 * spot
    return np.maximum(density, 0.12 * amount).astype(np.float32), cover.astype(np.float32)

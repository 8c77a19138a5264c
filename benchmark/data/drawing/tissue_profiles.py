"""The synthetic tissues: what they are built of, and how a slide of one varies."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Profile:
    """One tissue.

    Attributes:
        motifs: architecture of a benign patch -> probability. tumour: the same on a malignant slide.
        malignant: share of malignant slides.
        size: shift of ln nuclear area. strength: depth of stain. infiltrate: inflammatory cells per patch.
        stroma: connective nuclei per patch of pure stroma. cell: distance of cells in sheets, px.
    """

    motifs: dict[str, float]
    tumour: dict[str, float]
    malignant: float
    size: float = 0.0
    strength: float = 1.0
    infiltrate: float = 10.0
    stroma: float = 30.0
    cell: float = 34.0
    cytoplasm: tuple[float, float] = (0.26, 0.9)


PROFILES = {
    "Breast": Profile(
        {"ducts": 0.55, "adipose": 0.2, "stroma": 0.25},
        {"nests": 0.7, "solid": 0.15, "stroma": 0.15},
        0.7, size=-0.05, infiltrate=10, cell=30,
    ),
    "Colon": Profile(
        {"crypts": 0.8, "stroma": 0.2},
        {"cribriform": 0.75, "nests": 0.1, "stroma": 0.15},
        0.5, size=-0.3, strength=0.85, infiltrate=24, stroma=30, cell=26,
    ),
    "Kidney": Profile(
        {"tubules": 0.9, "stroma": 0.1},
        {"clear": 0.8, "tubules": 0.2},
        0.45, size=-0.1, strength=1.2, infiltrate=6, stroma=24, cell=46, cytoplasm=(0.08, 1.15),
    ),
    "Liver": Profile(
        {"plates": 0.85, "stroma": 0.15},
        {"plates": 0.4, "solid": 0.6},
        0.4, size=0.2, strength=1.1, infiltrate=8, stroma=26, cell=50, cytoplasm=(0.2, 1.5),
    ),
    "Lung": Profile(
        {"alveoli": 0.85, "stroma": 0.15},
        {"nests": 0.6, "cribriform": 0.25, "stroma": 0.15},
        0.6, size=0.05, strength=1.15, infiltrate=16, cell=33,
    ),
    "Skin": Profile(
        {"epidermis": 0.45, "stroma": 0.35, "adipose": 0.2},
        {"nests": 0.6, "solid": 0.3, "stroma": 0.1},
        0.5, size=-0.15, strength=0.95, infiltrate=12, stroma=26, cell=27, cytoplasm=(0.3, 1.1),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What the patches of one slide share, besides the stain."""

    profile: Profile
    malignant: bool
    size: float
    density: float
    crowding: float  # part of a nucleus that a neighbour may cover
    waviness: float
    cytoplasm: tuple[float, float]
    infiltrate: float
    grade: float  # pleomorphism of tumour nuclei
    openness: float  # how empty the centres of vesicular nuclei are
    basophilia: float  # haematoxylin in the fibres of the stroma
    mess: float  # abundance of distractors
    motifs: dict[str, float] = field(default_factory=dict)


def draw_look(rng: np.random.Generator, profile: Profile) -> Look:
    malignant = bool(rng.random() < profile.malignant)
    return Look(
        profile=profile,
        malignant=malignant,
        size=profile.size + rng.normal(0.12, 0.22),
        density=float(np.clip(rng.normal(1, 0.12), 0.75, 1.3)),
        crowding=float(rng.uniform(0.04, 0.3)),
        waviness=float(rng.uniform(4, 15)),
        cytoplasm=(
            float(np.clip(profile.cytoplasm[0] * rng.lognormal(0, 0.5), 0.05, 0.6)),
            float(profile.cytoplasm[1] * rng.lognormal(0, 0.2)),
        ),
        infiltrate=float(profile.infiltrate * rng.lognormal(0, 0.7)),
        grade=float(rng.uniform(0, 1)),
        openness=float(rng.uniform(0, 0.45)),
        basophilia=float(max(0.0, rng.normal(0.05, 0.22))),
        mess=float(rng.gamma(2.0, 0.5)),
        motifs=profile.tumour if malignant else profile.motifs,
    )

"""Data sets that have a training and a test part: FOLD=1, validation on a fixed fifth of the training patients."""

import hashlib
import math
import re

import numpy as np

from benchmark.data.files.names import key
from benchmark.data.source import Part, Split
from benchmark.runtime.errors import InputError

TRAIN, TEST = 1, 2  # raw folds


def held_out(patients) -> list[str]:
    """The patients of the validation side: a fifth of them, at least one, with the lowest SHA-256 of their names.

    It depends on the names alone, in small letters, not on their order or on the machine.
    """
    distinct = {key(patient): patient for patient in patients}
    order = sorted(distinct, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return sorted(distinct[name] for name in order[: max(1, math.floor(len(distinct) / 5))])


def split(name: str, k: int, patients: list[str]) -> Split:
    """The one split of a data set with the raw folds TRAIN and TEST.

    Args:
        name: of the data set. k: FOLD. patients: of each image of the fold TRAIN; empty where they are not known yet.

    Raises:
        InputError: another k, or training images of a single patient.
    """
    if k != 1:
        raise InputError(f"{name} has one split, its training and test images, found FOLD={k}; use FOLD=1.")
    if len(set(map(key, patients))) == 1:
        raise InputError(
            f"{name}: expected training images of at least 2 patients, one of them for validation, found those of "
            f"'{patients[0]}' alone; use the whole data set."
        )
    chosen = set(map(key, held_out(patients))) if patients else set()
    validation = np.array([key(patient) in chosen for patient in patients], bool)
    rows = np.flatnonzero(~validation), np.flatnonzero(validation)
    return Split([Part(TRAIN, rows[0])], [Part(TRAIN, rows[1])], [Part(TEST)])


def tcga(name: str) -> str:
    """The patient of a TCGA name, its first 12 characters (TCGA-A7-A13E of TCGA-A7-A13E-01Z-00-DX1); else the name."""
    return tcga_patient(name) or name


def tcga_patient(name: str) -> str:
    """The patient of a TCGA name; "" of any other."""
    match = re.match(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Z0-9])", name)
    return match[0] if match else ""

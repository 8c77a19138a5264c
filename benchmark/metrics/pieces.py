"""Nuclei of one label map, and their pieces: the pixels of one id and one type."""

import numpy as np

from .inputs import TYPES
from .rle import Runs, dense


class Pieces:
    """One side of the runs, split into pieces: the pixels of one id and one type.

    Object 0 and piece 0 are background.

    Attributes:
        ids (n,), area (n,): id and pixels of each object.
        object (p,), type (p,), piece_area (p,): of each piece.
        label (R,), piece (R,): object and piece of each run.
    """

    def __init__(self, runs: Runs, ids: np.ndarray, types: np.ndarray, ndim: int, name: str):
        if ids.min(initial=0) < 0:
            raise ValueError(f"{name}_instances holds the id {ids.min()}, expected ids >= 0 (0 = background)")
        self.ids, self.label = dense(ids.astype(np.int64, copy=False))
        n = len(self.ids)
        if ndim == 2:
            if types.min(initial=0) < 0 or types.max(initial=0) >= TYPES:
                raise ValueError(f"{name}_types holds {types.min()}..{types.max()}, expected 0..{TYPES - 1}")
            width = int(types.max(initial=0)) + 1
            types = np.where(self.label > 0, types, 0).astype(np.int64)
            of_label = np.zeros(n, np.int64)
            of_label[self.label] = types
            if np.array_equal(of_label[self.label], types):  # no nucleus of mixed type, as nearly always
                self.piece, self.object, self.type = self.label, np.arange(n), of_label
            else:
                keys, self.piece = dense(self.label * width + types)
                self.object, self.type = keys // width, keys % width
        else:
            if ndim == 0:
                types = np.zeros(n - 1, np.int64)
            if len(types) != n - 1:
                raise ValueError(f"{name}_types has {len(types)} entries, expected {n - 1}: one per instance id")
            self.piece, self.object = self.label, np.arange(n)
            self.type = np.concatenate([np.zeros(1, np.int64), types])
        self.piece_area = np.bincount(self.piece, weights=runs.length, minlength=len(self.object)).astype(np.int64)
        self.area = np.bincount(self.object, weights=self.piece_area, minlength=n).astype(np.int64)

    def majority(self) -> np.ndarray:
        """int64 (n,) type of each object: most pixels, the lower on a tie, 0 only when nothing else
        occurs."""
        if len(self.object) == len(self.ids):
            return self.type
        order = np.lexsort((self.type, -self.piece_area, self.type == 0, self.object))
        first = np.ones(len(order), bool)
        first[1:] = self.object[order][1:] != self.object[order][:-1]
        return self.type[order[first]]

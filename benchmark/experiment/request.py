"""A request to run one cell, as data for the process that runs it."""

import json
from dataclasses import dataclass, replace

from benchmark.experiment.cell import Cell
from benchmark.experiment.grid import cells
from benchmark.experiment.setup import Setup


@dataclass(frozen=True)
class Request:
    """One cell to run.

    Attributes:
        method: its name, which may have overrides, and whose row the setup's preset may give.
        split: published split, counted from 1.
        keep_maps: store the raw maps of the test images too.
    """

    setup: Setup
    method: str
    split: int
    seed: int
    keep_maps: bool = False

    @classmethod
    def of(cls, cell: Cell, keep_maps: bool = False) -> "Request":
        """The request for a cell that is trained; as one of its own it needs no overrides but those of its setup."""
        setup = replace(cell.setup, overrides=tuple(cell.changes.items())) if cell.overrides else cell.setup
        return cls(setup, str(cell.spec), cell.split, cell.seed, keep_maps)

    def to_text(self) -> str:
        """JSON."""
        return json.dumps(vars(self) | {"setup": self.setup.to_json()})

    @classmethod
    def from_text(cls, text: str) -> "Request":
        """The inverse of `to_text`."""
        values = json.loads(text)
        return cls(**values | {"setup": Setup.from_json(values["setup"])})

    def cell(self) -> Cell:
        """The requested cell. Raises InputError as `grid.cells`."""
        (cell,) = cells(self.setup, [self.method], [self.split], [self.seed])
        return cell

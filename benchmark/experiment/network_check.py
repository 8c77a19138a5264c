"""Whether networks can be built: asked before data are prepared and encoders pretrained, which may take hours."""

import torch

from benchmark.experiment.cell import Cell
from benchmark.methods import registry
from benchmark.runtime.errors import InputError


def check_networks(cells: list[Cell]) -> None:
    """Build the network of each cell that can run here, without memory for its parameters (PyTorch's device meta).

    Raises:
        InputError: an argument that the method refuses, such as an unknown `tune` or heads that do not divide a width.
    """
    built = set()
    for cell in cells:
        known = str(cell.spec)
        if known in built or not cell.supports()[0]:
            continue
        built.add(known)
        try:
            with torch.device("meta"):
                registry.build(cell.spec, len(cell.setup.source.classes), 1)
        except InputError:
            raise
        except Exception:  # a network of another package may need values to be built: it is checked where it is trained
            continue

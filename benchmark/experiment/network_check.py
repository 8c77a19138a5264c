"""Whether networks can be built and filled: asked before data are prepared and encoders pretrained, which may take
hours, and before a run has a folder."""

import sys
import warnings

import torch

from benchmark.experiment.cell import Cell
from benchmark.experiment.encoder_weights import choice
from benchmark.methods import registry
from benchmark.runtime.distributed import World
from benchmark.runtime.errors import InputError, short
from benchmark.training import loop


def check_networks(cells: list[Cell]) -> None:
    """Build the network of each cell that can run here, without memory for its parameters (PyTorch's device meta).

    Raises:
        InputError: an argument that the method refuses, such as an unknown `tune` or heads that do not divide a width;
            a file of BACKBONE= that is none of the encoder's; more micro-batches than images in an update.
    """
    built = set()
    for cell in cells:
        known = str(cell.spec), cell.encoder.source, cell.recipe.batch, cell.recipe.accumulate, cell.recipe.samples
        if known in built or not cell.supports()[0]:
            continue
        built.add(known)
        method = _unfilled(cell)
        if cell.trains and method is not None:  # one process and as many images as one may have: fewer come later
            phases = method.phases(cell.setup.config.kind == "published")
            loop.check_batches(phases, cell.recipe, sys.maxsize, World(0, 1, torch.device("cpu")))


def _unfilled(cell: Cell):
    """The network, with the file of its encoder compared but not kept; None where it needs memory to be built."""
    source = cell.encoder.source
    file = {} if source in (None, "", "hub", "pretext") or not cell.trains else {"weights": source}
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.filterwarnings("ignore", message=".*no-op")  # nothing is copied where there is no memory
            return registry.build(cell.spec, len(cell.setup.source.classes), 1, **file)
    except InputError:
        raise
    except Exception:  # a network of another package may need values to be built: it is checked where it is trained
        return None


def check_backbone(cells: list[Cell]) -> None:
    """Raises InputError where BACKBONE= names weights, and no cell of all that are asked for takes them."""
    text = cells[0].setup.backbone
    encoders = {cell.cls.encoder_of(cell.spec.arguments): cell for cell in cells}
    if not text or any(
        choice(text, encoder, cell.cls.backbone_of(cell.spec.arguments) is not None)
        for encoder, cell in encoders.items()
    ):
        return
    named = [encoder for encoder in encoders if encoder is not None]
    if not named:
        raise InputError(
            f"BACKBONE={short(text)}: fills the encoder of a network, and {cells[0].spec} has none to fill; "
            "leave it out."
        )
    raise InputError(
        f"BACKBONE={short(text)}: expected weights of an encoder that is trained here ({', '.join(named)}), found "
        f"none; write BACKBONE={named[0]}=<file>, or leave it out."
    )

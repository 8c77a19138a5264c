"""Buffers of a network, such as batch norm's running statistics, that a forward pass done once more leaves alone."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def kept(module: torch.nn.Module) -> Iterator[None]:
    """Give a module's buffers back their values on leaving, whatever a forward pass did to them meanwhile."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)  # of .data: autograd need not hear of a change that leaves no trace

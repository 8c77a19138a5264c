"""Small tensors of fixed numbers, kept on their device: a copy to a GPU may not happen while a graph is captured."""

import functools

import torch


def constant(values: tuple, like: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A tensor of numbers, on the device of `like`. Not to be changed by who gets it.

    Args:
        values: numbers, or tuples of numbers, which may be symbolic while torch compiles.
        dtype: that of `like`, where it is None.
    """
    dtype = dtype or like.dtype
    if torch.compiler.is_compiling() or type(like) is not torch.Tensor:  # a fake tensor must not be kept
        return torch.tensor(values, dtype=dtype, device=like.device)
    return _kept(_plain(values), dtype, like.device)


def _plain(values):
    """The numbers as Python's own."""
    if isinstance(values, tuple):
        return tuple(_plain(value) for value in values)
    return values if isinstance(values, float) else int(values)


# never forgotten: a captured graph reads its constants at their addresses, and nothing else keeps them alive. Each
# takes the 512 bytes that torch's allocator gives at least, so thousands of shapes are a megabyte or two
@functools.cache
def _kept(values: tuple, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):  # what is made in inference mode cannot be used in training afterwards
        return torch.tensor(values, dtype=dtype, device=device)

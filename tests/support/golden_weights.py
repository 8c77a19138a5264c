"""The rule by which the golden figures' weights were filled: a function of each entry's name and shape."""

import math
import zlib

import numpy as np
import torch

POSITIONS = {"pos_embed", "cls_token", "level_embed", "rel_pos_h", "rel_pos_w"}


def fill(key: str, shape: list[int]) -> torch.Tensor:
    """Weights of one entry of an official state dict, float32 (int64 for counters)."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    if key.endswith("unpool_mat"):
        return torch.ones(*shape)
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if key.endswith("running_var"):
        values = 0.5 + rng.random(shape)
    elif key.endswith("running_mean"):
        values = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1 and key.endswith(("weight", "gamma")):
        values = 1 + 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:
        values = 0.02 * rng.standard_normal(shape)
    elif key.rpartition(".")[2] in POSITIONS:
        values = 0.2 * rng.standard_normal(shape)
    else:
        gain = 2 if len(shape) == 4 else 1
        values = rng.standard_normal(shape) * math.sqrt(gain / math.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32))


def fill_state(keys) -> dict[str, torch.Tensor]:
    """{key: weights} for (key, shape) pairs."""
    return {key: fill(key, shape) for key, shape in keys}

"""Images as tensors: to floats, mirror padding, the centre of a map."""

import torch
import torch.nn.functional as F


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 to float32 in [0, 1]."""
    return images.to(torch.float32) / 255


def pad_to(images: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """Mirror-pad (B, C, H, W) to height × width, image in the centre; also returns its (top, left) there."""
    top, left = (height - images.shape[-2]) // 2, (width - images.shape[-1]) // 2
    pads = (left, width - images.shape[-1] - left, top, height - images.shape[-2] - top)
    while any(pads):
        # reflect can add at most side-1 pixels at a time; small images are mirrored again
        limits = (images.shape[-1] - 1,) * 2 + (images.shape[-2] - 1,) * 2
        if min(limits) < 1:
            raise ValueError(f"images are {tuple(images.shape)}; expected sides of at least 2 pixels")
        step = tuple(min(p, limit) for p, limit in zip(pads, limits))
        images = F.pad(images, step, mode="reflect")
        pads = tuple(p - s for p, s in zip(pads, step))
    return images, (top, left)


def centre(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The central height × width of (…, H, W); vectors (B, K) pass unchanged."""
    if maps.ndim == 2:
        return maps
    top, left = (maps.shape[-2] - height) // 2, (maps.shape[-1] - width) // 2
    return maps[..., top : top + height, left : left + width]

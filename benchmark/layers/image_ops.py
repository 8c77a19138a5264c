"""Images as tensors: floats, standardised; mirror padding, the centre of a map, windows and maps joined from them."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from benchmark.ops.constants import constant


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 to float32 in [0, 1]."""
    return images.to(torch.float32) / 255


def standardised(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(images - mean) / std of (B, C, H, W), a number of each per channel."""
    shift, scale = constant((tuple(mean), tuple(std)), images)
    return (images - shift.view(1, -1, 1, 1)) / scale.view(1, -1, 1, 1)


# pixels of a map up to which it is enlarged by a product: those of 512 x 512 images at stride 16
PRODUCT_UP_TO = 1024


def enlarged(maps: torch.Tensor, factor: int) -> torch.Tensor:
    """(B, C, h, w) to (B, C, h * factor, w * factor), bilinear, corners not aligned.

    Under autocast on a GPU small maps by a matrix product, in half precision and with the channels last: torch's kernel
    takes ten times what its memory traffic needs there, forward and backward, and the product's matrix grows with the
    square of the pixels. For factors of 2, 4 and 8 the weights are exact in
    bfloat16 and float16, so that all that is rounded is the maps before and after.
    """
    if maps.is_cuda and torch.is_autocast_enabled("cuda") and maps.shape[-2] * maps.shape[-1] <= PRODUCT_UP_TO:
        return enlarged_by_product(maps, factor, torch.get_autocast_dtype("cuda"))
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


def enlarged_by_product(maps: torch.Tensor, factor: int, dtype: torch.dtype) -> torch.Tensor:
    """`enlarged` as one matrix product over all pixels, in `dtype`: for small maps of many channels."""
    height, width = maps.shape[-2:]
    rows, columns = (_bilinear(side, factor, maps.device) for side in (height, width))
    weights = (rows[:, None, :, None] * columns[None, :, None, :]).flatten(2).flatten(0, 1)
    pixels = maps.flatten(2).transpose(1, 2)
    # not matmul, which would fold the batch into the channels and give the result with the pixels last
    out = torch.bmm(weights.to(dtype).expand(len(maps), -1, -1), pixels.to(dtype))
    return out.transpose(1, 2).unflatten(2, (height * factor, width * factor))


def _bilinear(side: int, factor: int, device: torch.device) -> torch.Tensor:
    """float32 (side * factor, side): the share of each old pixel in each new one along an axis."""
    new, old = (torch.arange(count, dtype=torch.float32, device=device) for count in (side * factor, side))
    place = ((new + 0.5) / factor - 0.5).clamp(0, side - 1)
    return (1 - (place[:, None] - old).abs()).clamp(min=0)


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


def windows(images: torch.Tensor, corners: list[tuple[int, int]], side: int) -> torch.Tensor:
    """(B, N, C, side, side): the windows of (B, C, H, W) that begin at each (top, left) of `corners`."""
    return torch.stack([images[..., top : top + side, left : left + side] for top, left in corners], 1)


def in_windows(
    predict: Callable[[torch.Tensor], dict[str, torch.Tensor]],
    images: torch.Tensor,
    side: int,
    margin: int,
    at_once: int = 1,
) -> dict[str, torch.Tensor]:
    """Maps of images of any size from a network that sees square windows.

    The images are mirror-padded by the same amount on both sides, so that windows whose cores lie edge to edge cover
    them; of each window's maps the core is kept.

    Args:
        predict: windows (B * N, C, side, side) to maps (B * N, K, h, w) around the same centre, h and w at least the
            core's side, and vectors (B * N, K).
        images: (B, C, H, W).
        side: of a window, px.
        margin: of each window, px on each side that are context only; the core has side - 2 * margin.
        at_once: N, windows of an image that `predict` is called with.

    Returns:
        Maps (B, K, H, W) of the device and dtype that `predict` gives; vectors (B, K), the mean over all windows.
    """
    height, width = images.shape[-2:]
    core = side - 2 * margin
    rows, columns = -(-height // core), -(-width // core)
    padded, (top, left) = pad_to(images, rows * core + 2 * margin, columns * core + 2 * margin)
    top, left = top - margin, left - margin
    maps = from_windows(predict, padded, side, margin, at_once)
    return {
        name: values if values.ndim == 2 else values[..., top : top + height, left : left + width]
        for name, values in maps.items()
    }


def from_windows(
    predict: Callable[[torch.Tensor], dict[str, torch.Tensor]],
    images: torch.Tensor,
    side: int,
    margin: int,
    at_once: int = 1,
) -> dict[str, torch.Tensor]:
    """As `in_windows`, of images (B, C, H + 2 * margin, W + 2 * margin) that bring their context; H, W: whole cores."""
    core = side - 2 * margin
    rows, columns = ((length - 2 * margin) // core for length in images.shape[-2:])
    corners = [(row * core, column * core) for row in range(rows) for column in range(columns)]
    maps: dict[str, torch.Tensor] = {}
    vectors: dict[str, list[torch.Tensor]] = {}
    for start in range(0, len(corners), at_once):
        part = corners[start : start + at_once]
        for name, values in predict(windows(images, part, side).flatten(0, 1)).items():
            values = values.unflatten(0, (len(images), len(part)))
            if values.ndim == 3:
                vectors.setdefault(name, []).extend(values.unbind(1))
                continue
            if name not in maps:
                maps[name] = values.new_zeros(len(images), values.shape[2], rows * core, columns * core)
            for k, (y, x) in enumerate(part):
                maps[name][..., y : y + core, x : x + core] = centre(values[:, k], core, core)
    return maps | {name: torch.stack(parts).mean(0) for name, parts in vectors.items()}

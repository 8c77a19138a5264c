"""Windows over images of any size, and maps joined from them."""

import pytest
import torch
import torch.nn.functional as F

from benchmark.layers.image_ops import enlarged, enlarged_by_product, in_windows, pad_to, windows


def blurred(images: torch.Tensor, reach: int) -> torch.Tensor:
    """Sums over (2 reach + 1) px squares, whole numbers in float64: exact in any order; valid pixels only."""
    side = 2 * reach + 1
    return F.avg_pool2d(images, side, 1, divisor_override=1)


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("valid", [True, False], ids=["valid", "same size"])
@pytest.mark.parametrize(("height", "width"), [(50, 33), (20, 20), (7, 90)])
def test_windows_join_to_the_map_of_the_whole(height, width, valid, at_once):
    """A network that sees `margin` px around each pixel gives what it gives on the whole, mirrored image."""
    images = torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0)).double()
    side, margin, sizes = 24, 4, []

    def predict(parts):
        sizes.append(len(parts))
        assert parts.shape[1:] == (3, side, side)
        maps = blurred(parts, margin)
        maps = maps if valid else F.pad(maps, (margin,) * 4, value=-1)
        return {"sum": maps, "first": parts[:, :1], "mean": parts.mean((2, 3))}

    maps = in_windows(predict, images, side, margin, at_once)
    padded, _ = pad_to(images, height + 2 * margin, width + 2 * margin)
    assert torch.equal(maps["sum"], blurred(padded, margin))
    assert torch.equal(maps["first"], images[:, :1])
    count = -(-height // 16) * -(-width // 16)
    assert sum(sizes) == 2 * count and max(sizes) <= 2 * at_once
    assert maps["mean"].shape == (2, 3)


def test_vectors_are_the_mean_over_the_windows():
    images = torch.arange(2 * 8 * 16, dtype=torch.float32).reshape(2, 1, 8, 16)
    maps = in_windows(lambda parts: {"mean": parts.mean((2, 3))}, images, 8, 0, at_once=2)
    torch.testing.assert_close(maps["mean"], images.mean((2, 3)))


def test_windows_begin_at_their_corners():
    images = torch.arange(2 * 36.0).reshape(2, 1, 6, 6)
    cut = windows(images, [(0, 0), (1, 2)], 4)
    assert cut.shape == (2, 2, 1, 4, 4)
    assert torch.equal(cut[:, 0], images[..., :4, :4]) and torch.equal(cut[:, 1], images[..., 1:5, 2:6])


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (7, 3), (16, 9)])
def test_enlarging_by_a_product_is_bilinear(factor, height, width):
    """Values and gradients of torch's own, with the channels last; in bfloat16 the weights lose nothing."""
    maps = torch.rand(2, 5, height, width, dtype=torch.float64)
    first, second = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    expected, found = enlarged(first, factor), enlarged_by_product(second, factor, torch.float64)
    torch.testing.assert_close(found, expected)
    weights = torch.rand_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(second.grad, first.grad)
    assert found.is_contiguous(memory_format=torch.channels_last)
    eye = torch.eye(height * width).view(1, -1, height, width)
    assert torch.equal(enlarged_by_product(eye, factor, torch.bfloat16).float(), enlarged(eye, factor))

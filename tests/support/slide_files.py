"""Slides of a few tiles, as scanners and other programs write them: SVS, OME-TIFF, plain pyramids."""

import io
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from benchmark.data.sources.synthetic import draw

SIDE = 256  # px of a tile of the file
APERIO = "Aperio Image Library v11.2.1\r\n{w}x{h} [0,0 {w}x{h}] (256x256) JPEG/RGB Q=70"


def mosaic(rows: int, columns: int, patch: int = 256, glass: int = 0) -> np.ndarray:
    """uint8 (H, W, 3): drawn patches of one slide side by side, in a frame of glass of so many px."""
    lines = [
        np.concatenate([draw("Colon", 3, columns * i + j, size=patch).image for j in range(columns)], 1)
        for i in range(rows)
    ]
    return np.pad(np.concatenate(lines), ((glass, glass), (glass, glass), (0, 0)), constant_values=244)


def half(image: np.ndarray, times: int = 1) -> np.ndarray:
    """The image with half of its sides, cut to whole pixels, so many times."""
    for _ in range(times):
        height, width = (side // 2 * 2 for side in image.shape[:2])
        image = image[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3)).round().astype(np.uint8)
    return image


def write_svs(
    path: Path,
    image: np.ndarray,
    *,
    levels: int = 2,
    compression: str | int = "jpeg",
    tags: str = "|AppMag = 40|MPP = 0.2500",
    shared: bool = False,
) -> Path:
    """As Aperio writes it: the finest level, a thumbnail in strips, coarser levels in tiles, the label, the macro.

    Args:
        levels: in all, each a quarter of the sides of the one before.
        compression: "jpeg" is YCbCr with halved colours.
        tags: behind the description's first lines.
        shared: JPEG tables stand once in each page, not in its tiles.
    """
    height, width = image.shape[:2]
    described = APERIO.format(w=width, h=height) + tags
    label = np.full((90, 120, 3), (250, 40, 40), np.uint8)
    small = np.ascontiguousarray(image[:: max(1, height // 200), :: max(1, width // 200)])
    with tifffile.TiffWriter(path) as file:

        def tiled(pixels: np.ndarray, **more) -> None:
            if shared:
                tables, parts = abbreviated(pixels)
                more |= {"shape": pixels.shape, "dtype": np.uint8, "jpegtables": tables}
                file.write(iter(parts), tile=(SIDE, SIDE), compression="jpeg", photometric="ycbcr",
                           subsampling=(2, 2), metadata=None, **more)  # fmt: skip
            else:
                options = {"compression": compression, "photometric": "rgb", "metadata": None}
                file.write(pixels, tile=(SIDE, SIDE), **options, **more)

        tiled(image, description=described)
        strips = {"rowsperstrip": 16, "photometric": "rgb", "metadata": None}
        file.write(small, compression="jpeg", description=described, **strips)
        for k in range(1, levels):
            tiled(half(image, 2 * k), description=described)
        file.write(label, compression="lzw", subfiletype=1, description="Aperio\r\nlabel 120x90", **strips)
        file.write(label, compression="jpeg", subfiletype=9, description="Aperio\r\nmacro 120x90", **strips)
    return path


def abbreviated(pixels: np.ndarray) -> tuple[bytes, list[bytes]]:
    """(JPEG tables, tiles without them), row by row; the last tiles are filled up with their last pixels."""
    high, wide = (-(-side // SIDE) * SIDE for side in pixels.shape[:2])
    filled = np.pad(pixels, ((0, high - pixels.shape[0]), (0, wide - pixels.shape[1]), (0, 0)), mode="edge")

    def jpeg(tile: np.ndarray, kind: int) -> bytes:
        content = io.BytesIO()
        Image.fromarray(tile).save(content, "JPEG", quality=90, subsampling="4:2:0", streamtype=kind)
        return content.getvalue()

    corners = [(top, left) for top in range(0, high, SIDE) for left in range(0, wide, SIDE)]
    tiles = [filled[top : top + SIDE, left : left + SIDE] for top, left in corners]
    return jpeg(tiles[0], 1), [jpeg(tile, 2) for tile in tiles]


def write_pyramid(path: Path, image: np.ndarray, *, levels: int = 1, ome: bool = False, **options) -> Path:
    """A tiled TIFF with coarser levels in sub-directories; `ome`: with OME's XML.

    Args:
        options: of tifffile's writer, such as resolution, or metadata with OME's entries.
    """
    with tifffile.TiffWriter(path, ome=ome) as file:
        settings = {"tile": (SIDE, SIDE), "photometric": "rgb", "compression": "zlib"} | options
        file.write(image, subifds=levels - 1, **({} if ome else {"metadata": None}) | settings)
        for k in range(1, levels):
            small = settings | {"metadata": None, "subfiletype": 1}
            small.pop("resolution", None), small.pop("resolutionunit", None)
            file.write(half(image, k), **small)
    return path


def damage(path: Path, tile: int, how: str, page: int = 0) -> None:
    """Spoil a tile of a file: its bytes, or that it has any."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        pages = file.pages[page]
        start, size = pages.dataoffsets[tile], pages.databytecounts[tile]
        if how == "empty":
            counts = list(pages.databytecounts)
            counts[tile] = 0
            pages.tags["TileByteCounts"].overwrite(counts)
    if how == "bytes":
        content = bytearray(path.read_bytes())
        content[start : start + size] = bytes(size)
        path.write_bytes(content)

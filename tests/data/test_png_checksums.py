"""PNG files whose pixels do not have the checksum that they are stored with: refused, wherever pictures are read."""

import numpy as np
import pytest

from benchmark.data.files import raster
from benchmark.runtime.errors import InputError
from tests.support import parquet_files


def damaged(content: bytes) -> dict[str, bytes]:
    """The ways in which a PNG of one IDAT was read with other pixels, or without its end."""
    at = content.index(b"IDAT") + 4
    size = int.from_bytes(content[at - 8 : at - 4], "big")
    middle = at + size // 2
    return {
        "a byte more": content[:middle] + bytes([content[middle] ^ 255]) + content[middle:],
        "a bit flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "a checksum of zeros": content[: at + size] + bytes(4) + content[at + size + 4 :],
        "without IEND": content[:-12],
        "cut in its checksum": content[: at + size + 2],
    }


@pytest.mark.parametrize("colours", (True, False))
def test_another_checksum_than_that_of_the_pixels_is_refused(tmp_path, colours):
    """A byte more among the pixels shifted all of them, and Pillow was content with their number."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 48, 3) if colours else (40, 48), dtype=np.uint8)
    whole = parquet_files.png(pixels)
    path = tmp_path / "a.png"
    path.write_bytes(whole)
    assert np.array_equal(raster.array(path, colours), pixels)
    for way, content in damaged(whole).items():
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.png cannot be read \(.*\): expected a whole file"):
            raster.array(path, colours)
        with pytest.raises(InputError, match="row 3 cannot be read"):
            raster.from_bytes(content, "row 3", colours)
            pytest.fail(way)

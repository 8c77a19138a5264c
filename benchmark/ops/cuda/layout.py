"""What the kernel sources decide at compile time, once more for the host: who holds which channels, how much shared
memory a block needs. A test compares these figures with those of the compiled sources."""

import ctypes
from dataclasses import dataclass
from functools import cache

import torch

WARP = 32
MAX_LEVELS = 32
LARGEST_RANGE = 256
# of values.cu, by the bytes of a value: threads of a block, sums that a lane keeps in registers, blocks that a
# multiprocessor's registers must hold
VALUES_BLOCK = {8: (512, 16, 1), 4: (1024, 16, 1), 2: (1024, 16, 1)}
# of gather.cu, by the bytes of a value: rows of grad_output that a lane has on the way, blocks of gather_values that a
# multiprocessor's registers must hold
GATHER = {8: (2, 4), 4: (2, 5), 2: (2, 5)}
# of forward_tile: threads of a block, blocks that a multiprocessor's registers must hold
TILE_BLOCK = {8: (256, 2), 4: (512, 2), 2: (512, 2)}
SOURCE_VALUE = {torch.float64: 64, torch.float32: 32, torch.float16: 16, torch.bfloat16: 19}  # the macro VALUE


class Levels(ctypes.Structure):
    """The kernels' argument of the same name (samples.cu)."""

    _fields_ = [
        ("count", ctypes.c_int),
        ("height", ctypes.c_int * MAX_LEVELS),
        ("width", ctypes.c_int * MAX_LEVELS),
        ("start", ctypes.c_int * (MAX_LEVELS + 1)),
    ]

    @classmethod
    def of(cls, shapes: list[tuple[int, int]]) -> "Levels":
        levels = cls(count=len(shapes))
        for i, (height, width) in enumerate(shapes):
            levels.height[i], levels.width[i] = height, width
            levels.start[i + 1] = levels.start[i] + height * width
        return levels


@dataclass(frozen=True)
class Layout:
    """One compiled variant: dtype of value, D channels per head, elements per memory access."""

    dtype: torch.dtype
    channels: int
    vector: int

    @property
    def definitions(self) -> dict[str, int]:
        names = ("THREADS", "SUMS", "RESIDENT", "TILE_THREADS", "TILE_RESIDENT", "ROWS_AT_ONCE", "GATHERING")
        size = self.value_bytes
        blocks = zip(names, VALUES_BLOCK[size] + TILE_BLOCK[size] + GATHER[size])
        return {"VALUE": SOURCE_VALUE[self.dtype], "CHANNELS": self.channels, "VECTOR": self.vector, **dict(blocks)}

    @property
    def value_bytes(self) -> int:
        return self.dtype.itemsize

    @property
    def sum_bytes(self) -> int:
        return 8 if self.dtype == torch.float64 else 4

    @property
    def row(self) -> int:
        return self.channels // self.vector

    @property
    def lanes(self) -> int:
        return _lanes(self.row)

    @property
    def all_items(self) -> int:
        return -(-self.row // self.lanes)

    @property
    def items(self) -> int:
        return min(self.all_items, 4)

    @property
    def slabs(self) -> int:
        return -(-self.all_items // self.items)

    @property
    def pitch(self) -> int:
        return self.channels if self.slabs == 1 else self.items * self.lanes * self.vector

    @property
    def values_threads(self) -> int:
        """Threads of a block of values.cu, and samples that it sorts at a time."""
        return VALUES_BLOCK[self.value_bytes][0]

    @property
    def range(self) -> int:
        """Pixels whose gradients a block of values.cu owns."""
        groups = self.values_threads // self.lanes
        sums = VALUES_BLOCK[self.value_bytes][1]
        owned = max(1, min(sums // (self.items * self.vector), LARGEST_RANGE // groups))
        return min(owned * groups, LARGEST_RANGE)

    def step(self, samples: int, threads: int) -> int:
        """Queries that a block of forward.cu or points.cu takes at a time."""
        return threads // self.lanes * (self.lanes // min(samples, self.lanes))

    def stage_bytes(self, threads: int) -> int:
        """Shared memory of a block of forward.cu or points.cu without a tile."""
        return threads // WARP * (WARP + WARP // self.lanes) * (16 + 4 * self.sum_bytes)

    def tile_bytes(self, pixels: int, pitch: int) -> int:
        return -(-pixels * pitch * self.value_bytes // 16) * 16

    def values_bytes(self, rows: int, points_too: bool = False) -> int:
        """Shared memory of a block of values.cu that stages `rows` rows of grad_output."""
        entries = 4 * self.values_threads * 2 * self.sum_bytes
        warps = self.values_threads // WARP
        tables = [warps * self.range * 2, (self.range + 1) * 4, warps * 4]
        kept = 3 * self.values_threads * self.sum_bytes if points_too else 0
        return entries + sum(-(-size // 16) * 16 for size in tables) + self.tile_bytes(rows, self.pitch) + kept

    def sort_bytes(self, corners: int, pixels: int, threads: int, staged: bool) -> int:
        """Shared memory of a block of sort_corners."""
        tables = [pixels * 4, threads // WARP * 4, corners * 2]
        return sum(-(-size // 16) * 16 for size in tables) + staged * corners * 2 * self.sum_bytes


@cache
def _lanes(row: int) -> int:
    best, idle = WARP, -(-row // WARP) * WARP - row
    lanes = WARP // 2
    while lanes:
        items = -(-row // lanes)
        if items <= 4 and items * lanes - row < idle:
            best, idle = lanes, items * lanes - row
        lanes //= 2
    return best


def layout_of(dtype: torch.dtype, channels: int, pointers: list[int]) -> Layout:
    """The variant for these tensors: 16 bytes per access where every row of every tensor starts at such a border.

    Raises:
        TypeError: dtype is none of the four.
    """
    if dtype not in SOURCE_VALUE:
        raise TypeError(f"value has dtype {dtype}, expected one of {', '.join(map(str, SOURCE_VALUE))}")
    vector = 16 // dtype.itemsize
    aligned = channels % vector == 0 and all(pointer % 16 == 0 for pointer in pointers)
    return Layout(dtype, channels, vector if aligned else 1)

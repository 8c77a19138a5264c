"""The operator on any machine that can launch the kernels: a GPU, or the tests' emulation on a CPU.

Chooses kernels and tiles, allocates through torch, launches. Never reads anything back from the device.
"""

import ctypes
import math
from typing import Protocol

import torch

from benchmark.ops.cuda.layout import MAX_LEVELS, TILE_BLOCK, Layout, Levels, layout_of

THREADS = 256  # of a block of forward.cu and points.cu
SORT_THREADS = 512  # of a block of sort_corners, at most 512
GATHER_THREADS = 256  # of a block of gather_values
GATHER_ROWS = 8  # pixels that a group of its lanes takes
# Reads of a pixel from which grad_value is no longer gathered (gather.cu) but summed in the blocks of values.cu. An
# H100, batch 16, gathered and summed: 1.24 and 1.40 ms at 18 reads, 3.15 and 2.87 at 37 (bfloat16: 1.16 and 1.25, 2.83
# and 2.60).
GATHER_READS = 24
# Reads of a pixel from which atomics are no longer the default, where they may be taken and gather.cu does not fit.
# Where it does, it is faster (the same H100 at 0.6 reads: 0.116 ms against 0.141, in bfloat16 0.074 against 0.249).
SCATTER_READS = 2
GRID = 2**31 - 1
Shapes = list[tuple[int, int]]


class Machine(Protocol):
    multiprocessors: int
    shared_limit: int  # bytes of shared memory that a block can get

    def launch(self, family: str, layout: Layout, kernel: str, grid: int, threads: int, shared: int, arguments: list):
        """Start `kernel` of the source file `family`.cu; arguments are ctypes values."""


def forward(machine: Machine, value: torch.Tensor, shapes: Shapes, locations, weights) -> torch.Tensor:
    """As `benchmark.ops.cuda.forward`."""
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    out = value.new_empty(batch, queries, heads * channels)
    if out.numel() == 0 or weights.numel() == 0:
        return out.zero_()
    value, locations, weights = _prepared(value, locations, weights)
    layout = _layout(value, out)
    problem = _Problem(value, shapes, locations)
    tiled, shared, tile = problem.forward_tiles(machine, layout)
    blocks = batch * heads * -(-queries // tile) * layout.slabs
    arguments = [pointer(value), pointer(locations), pointer(weights), pointer(out), *problem.arguments()]
    kernel, threads = ("forward_tile", TILE_BLOCK[layout.value_bytes][0]) if tiled else ("forward_global", THREADS)
    arguments.append(ctypes.c_longlong(tile))
    machine.launch("forward", layout, kernel, min(blocks, GRID), threads, shared, arguments)
    return out


def backward(machine: Machine, grad_output, value, shapes: Shapes, locations, weights, scatter: bool | None):
    """As `benchmark.ops.cuda.backward`.

    Args:
        scatter: grad_value by atomics, else by sorting (always the same bits); None takes the faster one.
    """
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    dtypes = locations.dtype, weights.dtype
    if value.numel() == 0 or weights.numel() == 0:
        return torch.zeros_like(value), torch.zeros_like(locations), torch.zeros_like(weights)
    value, locations, weights = _prepared(value, locations, weights)
    grad_output = grad_output.to(value.dtype).contiguous()
    grad_locations, grad_weights = torch.empty_like(locations), torch.empty_like(weights)
    problem = _Problem(value, shapes, locations)
    if scatter is None:
        without = sorted_way(machine, _layout(value, grad_output), problem)
        scatter = problem.reads < SCATTER_READS and not isinstance(without, _Gathering)
    grad_value = torch.zeros_like(value, dtype=locations.dtype) if scatter else torch.empty_like(value)
    layout = _layout(value, grad_output, grad_value)
    tensors = [grad_output, value, locations, weights, grad_value, grad_locations, grad_weights]
    sorting = None if scatter else sorted_way(machine, layout, problem)
    if not (sorting and sorting.points_too):
        tiled, shared, tile = problem.tiles(machine, layout, channels, allowed=not scatter)
        blocks = batch * heads * -(-queries // tile)
        arguments = [*map(pointer, tensors), *problem.arguments(), ctypes.c_longlong(tile)]
        kernel = "points_tile" if tiled else "points_global_scatter" if scatter else "points_global"
        machine.launch("points", layout, kernel, min(blocks, GRID), THREADS, shared, arguments)
    if sorting:
        sorting.run(machine, *tensors)
    return grad_value.to(value.dtype), grad_locations.to(dtypes[0]), grad_weights.to(dtypes[1])


def _layout(value: torch.Tensor, *others: torch.Tensor) -> Layout:
    return layout_of(value.dtype, value.shape[3], [t.data_ptr() for t in (value, *others)])


class _Problem:
    def __init__(self, value: torch.Tensor, shapes: Shapes, locations: torch.Tensor):
        self.batch, self.pixels, self.heads, _ = value.shape
        _, self.queries, _, levels, self.points, _ = locations.shape
        self.samples = levels * self.points
        for name, number in {"S": self.pixels, "Lq": self.queries, "L * P": self.samples}.items():
            if number >= 2**31:
                raise ValueError(f"{name} is {number}, expected less than 2**31 for the backend 'cuda'")
        if levels > MAX_LEVELS:
            raise ValueError(
                f"spatial_shapes has {levels} levels, expected at most {MAX_LEVELS} for the backend 'cuda'"
            )
        self.levels = Levels.of(shapes)

    @property
    def reads(self) -> float:
        """Of a pixel, on average."""
        return 4 * self.queries * self.samples / self.pixels

    def arguments(self, queries=ctypes.c_longlong) -> list:
        return [
            self.levels,
            ctypes.c_longlong(self.batch),
            ctypes.c_int(self.heads),
            queries(self.queries),
            ctypes.c_int(self.points),
        ]

    def tiles(self, machine: Machine, layout: Layout, pitch: int, allowed: bool = True) -> tuple[bool, int, int]:
        """(whether one head's value is copied into shared memory, a block's shared memory, its queries)."""
        step = layout.step(self.samples, THREADS)
        stage = layout.stage_bytes(THREADS)
        shared = stage + layout.tile_bytes(self.pixels, pitch)
        reads = 4 * self.samples  # of pixels per query
        if not allowed or shared > machine.shared_limit or self.queries * reads < 8 * self.pixels:
            return False, stage, step
        # about two waves of blocks, yet enough queries in each that copying the tile is a small part
        blocks = 2 * machine.multiprocessors * (machine.shared_limit // shared)
        share = -(-self.queries * self.batch * self.heads // blocks)
        tile = max(share, -(-4 * self.pixels // reads))
        return True, shared, min(-(-tile // step), -(-self.queries // step)) * step

    def forward_tiles(self, machine: Machine, layout: Layout) -> tuple[bool, int, int]:
        """As `tiles`, for forward.cu."""
        threads, resident = TILE_BLOCK[layout.value_bytes]
        reads = 4 * self.samples
        shared = layout.stage_bytes(threads) + layout.tile_bytes(self.pixels + 1, layout.pitch)
        if shared > machine.shared_limit or self.queries * reads < 8 * self.pixels:
            return False, layout.stage_bytes(THREADS), layout.step(self.samples, THREADS)
        at_once = machine.multiprocessors * max(1, min(resident, machine.shared_limit // shared))
        step, heads = layout.step(self.samples, threads), self.batch * self.heads * layout.slabs
        most = max(1, min(-(-self.queries // step), -(-4 * at_once // heads)))

        def cost(parts: int) -> int:
            """Of cutting a head's queries into so many parts: rows that a multiprocessor's busiest place reads. Copying
            a row of the tile takes as long as reading eight."""
            return -(-parts * heads // at_once) * (self._part(parts, step) * reads + 8 * self.pixels)

        return True, shared, self._part(min(range(1, most + 1), key=cost), step)

    def _part(self, parts: int, step: int) -> int:
        return -(-self.queries // (parts * step)) * step


def sorted_way(machine: Machine, layout: Layout, problem: _Problem):
    """How grad_value is summed without atomics."""
    gathering = _Gathering(machine, layout, problem)
    return gathering if gathering.fits and problem.reads < GATHER_READS else _Sorting(machine, layout, problem)


class _Gathering:
    """How gather.cu takes a problem, where it `fits`: where a level's corners can be sorted in shared memory."""

    points_too = False

    def __init__(self, machine: Machine, layout: Layout, problem: _Problem):
        self.layout, self.problem = layout, problem
        self.corners = 4 * problem.queries * problem.points  # of a head's level
        levels = problem.levels
        self.largest = max(levels.height[i] * levels.width[i] for i in range(levels.count))
        sizes = [layout.sort_bytes(self.corners, self.largest, SORT_THREADS, staged) for staged in (True, False)]
        self.staged = sizes[0] <= machine.shared_limit
        self.shared = sizes[0] if self.staged else sizes[1]
        self.tile = GATHER_THREADS // layout.lanes * GATHER_ROWS
        heads = problem.batch * problem.heads
        self.blocks = heads * -(-problem.pixels // self.tile) * layout.slabs
        # ids of corners have 16 bits, the kernels' own numbers 32
        row_numbers = problem.queries * problem.heads * layout.channels
        small = max(self.blocks, heads * levels.count, row_numbers) <= GRID
        self.fits = small and self.corners <= 2**16 and self.shared <= machine.shared_limit

    def run(self, machine, grad_output, value, locations, weights, grad_value, grad_locations, grad_weights) -> None:
        problem, layout = self.problem, self.layout
        heads, room = problem.batch * problem.heads, problem.levels.count * self.corners
        entries_bytes = heads * room * 2 * layout.sum_bytes
        scratch = value.new_empty(entries_bytes // 4 + 2 * heads * problem.pixels, dtype=torch.int32)
        entries, segments = pointer(scratch), ctypes.c_void_p(scratch.data_ptr() + entries_bytes)
        arguments = [pointer(locations), pointer(weights), segments, entries, *problem.arguments(ctypes.c_int)]
        arguments += [ctypes.c_int(self.largest), ctypes.c_int(self.staged)]
        blocks = heads * problem.levels.count
        machine.launch("gather", layout, "sort_corners", blocks, SORT_THREADS, self.shared, arguments)
        arguments = [pointer(grad_output), segments, entries, pointer(grad_value), ctypes.c_longlong(problem.batch)]
        numbers = problem.heads, problem.queries, problem.pixels, room, self.tile
        arguments += map(ctypes.c_int, numbers)
        machine.launch("gather", layout, "gather_values", self.blocks, GATHER_THREADS, 0, arguments)


class _Sorting:
    """How values.cu takes a problem; `points_too`: in the same walk with what points.cu does."""

    def __init__(self, machine: Machine, layout: Layout, problem: _Problem):
        self.layout, self.problem = layout, problem
        at_once = min(problem.samples, layout.values_threads)
        rows = layout.values_threads // at_once
        ranges = -(-problem.pixels // layout.range)
        # copying rows of grad_output first pays where most of their samples fall into the block's own range
        whole = ranges == layout.slabs == 1 and problem.samples <= at_once
        free = machine.shared_limit - layout.values_bytes(0, points_too=whole)
        fitting = free // (layout.pitch * layout.value_bytes)
        self.staged = ranges <= 4 and fitting >= min(rows, 8)
        rows = min(rows, fitting) if self.staged else rows
        # without staging a range that fewer levels touch takes as many rows at a time as it has threads for
        self.rows = rows if self.staged else layout.values_threads
        self.points_too = self.staged and whole
        self.blocks = problem.batch * problem.heads * ranges * layout.slabs
        self.splits = _splits(self.blocks, -(-problem.queries // rows), machine.multiprocessors)

    def run(self, machine, grad_output, value, locations, weights, grad_value, grad_locations, grad_weights) -> None:
        splits, layout = self.splits, self.layout
        partial = locations.new_empty(splits, *grad_value.shape) if splits > 1 else None
        tensors = [grad_output, value, locations, weights, grad_value, partial, grad_locations, grad_weights]
        arguments = [*map(pointer, tensors), *self.problem.arguments(ctypes.c_int)]
        arguments += [ctypes.c_int(splits), ctypes.c_int(self.rows)]
        kernel = "values_and_points" if self.points_too else "values_staged" if self.staged else "values_direct"
        shared = layout.values_bytes(self.rows if self.staged else 0, self.points_too)
        threads = layout.values_threads
        machine.launch("values", layout, kernel, min(self.blocks * splits, GRID), threads, shared, arguments)
        if splits > 1:
            size = grad_value.numel()
            arguments = [pointer(partial), pointer(grad_value), ctypes.c_longlong(size), ctypes.c_int(splits)]
            machine.launch("values", layout, "combine_splits", min(-(-size // 256), GRID), 256, 0, arguments)


def _splits(blocks: int, tiles: int, multiprocessors: int) -> int:
    """Into how many blocks to split the queries: as few as keep all multiprocessors (one block each) busy."""
    most = max(1, min(tiles, -(-2 * multiprocessors // blocks), 64))
    return min(range(1, most + 1), key=lambda s: math.ceil(blocks * s / multiprocessors) / s + 0.01 * s)


def _prepared(value, locations, weights):
    exact = torch.float64 if value.dtype == torch.float64 else torch.float32
    return value.contiguous(), locations.to(exact).contiguous(), weights.to(exact).contiguous()


def pointer(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """Address of the first element, null for None."""
    return ctypes.c_void_p(tensor.data_ptr() if tensor is not None else None)

"""What the GPU backend chooses, beside what it could have chosen: tiles, threads, splits, staging, the shape of a block
of the sorted backward pass, and how the ways of summing grad_value compare by the reads of a pixel. Needs a GPU.

    python perf/gpu_tune.py [--batch 16] [--only forward backward threshold] [--csv reports/gpu/tune.csv] [--limit 50]

Milliseconds at CellVTA's shapes (fp32 and bf16); "now" is what the committed code does. Each choice is made from
outside, so that the library carries none of the alternatives. Rows are written as they are measured, those over the
reads of a pixel first; after --limit seconds no other is begun.
"""

import argparse
import contextlib
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import gpu_time
import torch
from csv_rows import Rows
from gpu_ways import SHAPES, SHORT, problem

from benchmark.ops import cuda
from benchmark.ops.cuda import layout, plan
from benchmark.ops.cuda.driver import gpu

REPEATS = 7
TILE_BLOCKS = [(256, 3), (384, 2), (512, 2), (512, 3), (768, 1), (768, 2), (1024, 1), (1024, 2)]
BLOCKS = [(1024, 16, 1), (512, 32, 1), (512, 16, 2), (512, 32, 2), (256, 32, 2), (256, 16, 4), (256, 64, 1)]
GATHER_BLOCKS = [(1, 6), (2, 4), (2, 6), (3, 4), (4, 3), (4, 4)]
COLUMNS = ("call", "batch", "dtype", "part", "choice", "ms")


@dataclass
class Choice:
    """Values that take the place of the plan's own; None leaves the plan's.

    Attributes:
        tile: whether one head's value goes to shared memory; queries: of a block, as a multiple of the plan's;
        threads: of a block of forward_global and points.cu; tile_block: of forward_tile (threads, resident blocks);
        block: of values.cu (threads, sums, resident blocks);
        apart: points.cu and values.cu one after the other; staged, splits, rows: as `plan._Sorting`;
        gather: grad_value by gather.cu (True) or values.cu (False); and of gather.cu: rows on the way and resident
        blocks as `layout.GATHER`, pixels of a group, threads of the sort.
    """

    name: str
    tile: bool | None = None
    queries: float | None = None
    threads: int | None = None
    tile_block: tuple[int, int] | None = None
    block: tuple[int, int, int] | None = None
    apart: bool = False
    staged: bool | None = None
    splits: int | None = None
    rows: int | None = None
    gather: bool | None = None
    gather_block: tuple[int, int] | None = None
    gather_rows: int | None = None
    sort_threads: int | None = None

    def __post_init__(self):
        if self.block or self.staged is not None or self.splits or self.rows or self.apart:
            self.gather = False  # choices of values.cu
        if self.gather_block or self.gather_rows or self.sort_threads:
            self.gather = True


FORWARD = [
    Choice("now"),
    *(Choice(f"tile {yes}", tile=yes) for yes in (True, False)),
    *(Choice(f"queries x {factor:g}", queries=factor) for factor in (0.25, 0.5, 2, 4)),
    *(Choice(f"{threads} threads", threads=threads) for threads in (64, 128)),
    *(Choice("tile block {} threads, {} resident".format(*block), tile_block=block) for block in TILE_BLOCKS),
]
BACKWARD = [
    Choice("now"),
    Choice("gather True", gather=True),
    Choice("gather False", gather=False),
    *(Choice("gather {} rows at once, {} resident".format(*block), gather_block=block) for block in GATHER_BLOCKS),
    *(Choice(f"gather {count} pixels a group", gather_rows=count) for count in (2, 4, 16, 32)),
    *(Choice(f"gather, {threads} threads sort", sort_threads=threads) for threads in (128, 256, 384)),
    Choice("points apart", apart=True),
    Choice("points apart, tile False", apart=True, tile=False),
    Choice("points apart, 128 threads", apart=True, threads=128),
    *(Choice(f"staged {yes}", staged=yes) for yes in (True, False)),
    *(Choice(f"splits {count}", splits=count) for count in (1, 2, 3, 4, 8)),
    *(Choice(f"rows {count}", rows=count) for count in (32, 64, 128)),
    *(Choice("block {} threads, {} sums, {} resident".format(*block), block=block) for block in BLOCKS[1:]),
    *(
        Choice("block {} threads, {} sums, {} resident, points apart".format(*block), block=block, apart=True)
        for block in BLOCKS[1:]
    ),
]


@contextlib.contextmanager
def chosen(choice: Choice):
    """The plan makes this choice while the context is open."""
    tiles, forward_tiles, begin = plan._Problem.tiles, plan._Problem.forward_tiles, plan._Sorting.__init__
    way = plan.sorted_way

    def other_tiles(self, machine, of, pitch, allowed=True):
        if choice.tile is not None:
            allowed = choice.tile
        tiled, shared, queries = tiles(self, machine, of, pitch, allowed)
        if choice.tile and not tiled:
            raise ValueError("does not fit")
        step = of.step(self.samples, plan.THREADS)
        return tiled, shared, max(step, round(queries * (choice.queries or 1) / step) * step)

    def other_way(machine, of, asked):
        taken = way(machine, of, asked)
        if choice.gather and not isinstance(taken, plan._Gathering):
            raise ValueError("does not fit")
        return taken

    def other_forward_tiles(self, machine, of):
        tiled, shared, queries = forward_tiles(self, machine, of)
        if choice.tile and not tiled:
            raise ValueError("does not fit")
        if choice.tile is False and tiled:
            tiled, shared, queries = False, of.stage_bytes(plan.THREADS), of.step(self.samples, plan.THREADS)
        step = of.step(self.samples, layout.TILE_BLOCK[of.value_bytes][0] if tiled else plan.THREADS)
        return tiled, shared, max(step, round(queries * (choice.queries or 1) / step) * step)

    def other_sorting(self, machine, of, asked):
        begin(self, machine, of, asked)
        if choice.staged is not None and choice.staged != self.staged:
            self.staged = choice.staged
            self.rows = 8 if choice.staged else of.values_threads
        self.points_too = self.points_too and self.staged and not choice.apart
        if choice.rows:
            self.rows = min(choice.rows, self.rows)
        self.splits = choice.splits or self.splits

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(plan._Problem, "tiles", other_tiles))
        stack.enter_context(mock.patch.object(plan._Sorting, "__init__", other_sorting))
        stack.enter_context(mock.patch.object(plan, "sorted_way", other_way))
        stack.enter_context(mock.patch.object(plan._Problem, "forward_tiles", other_forward_tiles))
        if choice.gather is not None:
            stack.enter_context(mock.patch.object(plan, "GATHER_READS", math.inf if choice.gather else 0))
        if choice.gather_rows:
            stack.enter_context(mock.patch.object(plan, "GATHER_ROWS", choice.gather_rows))
        if choice.sort_threads:
            stack.enter_context(mock.patch.object(plan, "SORT_THREADS", choice.sort_threads))
        if choice.threads:
            stack.enter_context(mock.patch.object(plan, "THREADS", choice.threads))
        tables = {"VALUES_BLOCK": choice.block, "TILE_BLOCK": choice.tile_block, "GATHER": choice.gather_block}
        for table, block in tables.items():
            if block:
                machine = gpu(torch.cuda.current_device())
                stack.enter_context(mock.patch.dict(getattr(layout, table), {4: block, 2: block}))
                stack.enter_context(mock.patch.dict(machine._kernels, clear=True))
        yield


def milliseconds(work) -> float:
    device = torch.device("cuda", torch.cuda.current_device())
    for _ in range(2):
        work()
    return 1e3 * sorted(gpu_time.times(work, device, REPEATS, 0.002))[REPEATS // 2]


def measured(rows: Rows, call: str, batch: int, dtype: str, part: str, choice: str, work) -> None:
    if rows.is_up:
        return
    try:
        took = milliseconds(work)
    except (ValueError, RuntimeError) as error:
        print(f"{call:9} {dtype} {part:8} {choice:50} {str(error).splitlines()[0][:80]}", flush=True)
        torch.cuda.synchronize()
        return
    rows.add(call, batch, dtype, part, choice, took)
    print(f"{call:9} {dtype} {part:8} {choice:50} {took:8.4f} ms", flush=True)


def sweep(rows: Rows, call: str, batch: int, dtype: torch.dtype, only: list[str]) -> None:
    grad, value, shapes, locations, weights = problem(call, batch, dtype)
    parts = {
        "forward": (FORWARD, lambda: cuda.forward(value, shapes, locations, weights)),
        "backward": (BACKWARD, lambda: cuda.backward(grad, value, shapes, locations, weights, True)),
    }
    for part, (choices, work) in parts.items():
        for choice in choices if part in only else ():
            with chosen(choice):
                measured(rows, call, batch, SHORT[dtype], part, choice.name, work)


def threshold(rows: Rows, batch: int, dtype: torch.dtype) -> None:
    """All ways over the reads of each pixel: the injector's levels with few queries up to many."""
    ways = {"atomics": Choice("atomics"), "summed": Choice("", gather=False), "gathered": Choice("", gather=True)}
    for queries in (64, 144, 256, 484, 1024, 2025, 4096):  # squares, as `problem` needs
        arguments = problem("injector", batch, dtype, queries)
        reads = 4 * queries * 12 / arguments[1].shape[1]
        for way, choice in ways.items():
            scatter = way == "atomics"
            work = lambda a=arguments, s=scatter: cuda.backward(*a, not s, scatter=s)  # noqa: E731
            with chosen(choice):
                name = f"{reads:.2f} reads a pixel, {way}"
                measured(rows, "injector", batch, SHORT[dtype], "backward", name, work)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=16)
    parts = ["forward", "backward", "threshold"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which no row is begun")
    options = parser.parse_args()
    works, why = cuda.usable()
    if not works:
        print(f"needs a GPU: {why}")
        return 0
    rows = Rows(options.csv, COLUMNS, options.limit, gpu=torch.cuda.get_device_name())
    for dtype in SHORT if "threshold" in options.only else ():
        threshold(rows, options.batch, dtype)
    for dtype in SHORT:
        for call in SHAPES:
            sweep(rows, call, options.batch, dtype, options.only)
    if rows.is_up:
        print("the time is up")
    return 0


if __name__ == "__main__":
    sys.exit(main())

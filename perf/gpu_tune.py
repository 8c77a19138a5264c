"""What the GPU backend chooses, beside what it could have chosen: tiles, threads, splits, staging, the shape of a block
of the sorted backward pass, and from how many reads of a pixel sorting is faster than atomics. Needs a GPU.

    python perf/gpu_tune.py [--batch 16] [--csv reports/gpu/tune.csv]

Milliseconds at CellVTA's shapes (fp32 and bf16); "now" is what the committed code does. Each choice is made from
outside, so that the library carries none of the alternatives.
"""

import argparse
import contextlib
import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import gpu_time
import torch
from gpu_ways import SHAPES, SHORT, problem

from benchmark.ops import cuda
from benchmark.ops.cuda import layout, plan
from benchmark.ops.cuda.driver import gpu

REPEATS = 7
TILE_BLOCKS = [(256, 3), (384, 2), (512, 2), (512, 3), (768, 1), (768, 2), (1024, 1), (1024, 2)]
BLOCKS = [(1024, 16, 1), (512, 32, 1), (512, 16, 2), (512, 32, 2), (256, 32, 2), (256, 16, 4), (256, 64, 1)]
COLUMNS = ("call", "batch", "dtype", "part", "choice", "ms", "gpu")


@dataclass
class Choice:
    """Values that take the place of the plan's own; None leaves the plan's.

    Attributes:
        tile: whether one head's value goes to shared memory; queries: of a block, as a multiple of the plan's;
        threads: of a block of forward_global and points.cu; tile_block: of forward_tile (threads, resident blocks);
        block: of values.cu (threads, sums, resident blocks);
        dense: dense.cu where it can; apart: points.cu and values.cu one after the other; staged, splits, rows: as
        `plan._Sorting`. What only values.cu knows leaves dense.cu out.
    """

    name: str
    tile: bool | None = None
    queries: float | None = None
    threads: int | None = None
    tile_block: tuple[int, int] | None = None
    block: tuple[int, int, int] | None = None
    dense: bool = True
    apart: bool = False
    staged: bool | None = None
    splits: int | None = None
    rows: int | None = None


FORWARD = [
    Choice("now"),
    *(Choice(f"tile {yes}", tile=yes) for yes in (True, False)),
    *(Choice(f"queries x {factor:g}", queries=factor) for factor in (0.25, 0.5, 2, 4)),
    *(Choice(f"{threads} threads", threads=threads) for threads in (64, 128)),
    *(Choice("tile block {} threads, {} resident".format(*block), tile_block=block) for block in TILE_BLOCKS),
]
BACKWARD = [
    Choice("now"),
    Choice("sorted", dense=False),
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

    def other_tiles(self, machine, of, pitch, allowed=True):
        if choice.tile is not None:
            allowed = choice.tile
        tiled, shared, queries = tiles(self, machine, of, pitch, allowed)
        if choice.tile and not tiled:
            raise ValueError("does not fit")
        step = of.step(self.samples, plan.THREADS)
        return tiled, shared, max(step, round(queries * (choice.queries or 1) / step) * step)

    def other_forward_tiles(self, machine, of):
        tiled, shared, queries = forward_tiles(self, machine, of)
        if choice.tile and not tiled:
            raise ValueError("does not fit")
        if choice.tile is False and tiled:
            tiled, shared, queries = False, of.stage_bytes(plan.THREADS), of.step(self.samples, plan.THREADS)
        step = of.step(self.samples, layout.TILE_BLOCK[of.value_bytes][0] if tiled else plan.THREADS)
        return tiled, shared, max(step, round(queries * (choice.queries or 1) / step) * step)

    def other_sorting(self, machine, of, given):
        begin(self, machine, of, given)
        if choice.staged is not None and choice.staged != self.staged:
            self.staged = choice.staged
            self.rows = 8 if choice.staged else of.values_threads
        self.points_too = self.points_too and self.staged and not choice.apart
        if choice.rows:
            self.rows = min(choice.rows, self.rows)

    def splits(*sizes):
        return choice.splits

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(plan._Problem, "tiles", other_tiles))
        stack.enter_context(mock.patch.object(plan._Sorting, "__init__", other_sorting))
        stack.enter_context(mock.patch.object(plan._Problem, "forward_tiles", other_forward_tiles))
        if choice.splits:
            stack.enter_context(mock.patch.object(plan, "_splits", splits))
        if not choice.dense or choice.apart or choice.staged is not None or choice.rows or choice.block:
            stack.enter_context(mock.patch.object(plan, "_dense", lambda *arguments: False))
        if choice.threads:
            stack.enter_context(mock.patch.object(plan, "THREADS", choice.threads))
        tables = {"VALUES_BLOCK": choice.block, "TILE_BLOCK": choice.tile_block}
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
    return 1e3 * sorted(gpu_time.seconds(work, device, 0.002) for _ in range(REPEATS))[REPEATS // 2]


def measured(rows: list, call: str, batch: int, dtype: str, part: str, choice: str, work) -> None:
    try:
        took = milliseconds(work)
    except (ValueError, RuntimeError) as error:
        print(f"{call:9} {dtype} {part:8} {choice:50} {str(error).splitlines()[0][:80]}", flush=True)
        torch.cuda.synchronize()
        return
    rows.append((call, batch, dtype, part, choice, took, torch.cuda.get_device_name()))
    print(f"{call:9} {dtype} {part:8} {choice:50} {took:8.4f} ms", flush=True)


def sweep(rows: list, call: str, batch: int, dtype: torch.dtype) -> None:
    grad, value, shapes, locations, weights = problem(call, batch, dtype)
    parts = {
        "forward": (FORWARD, lambda: cuda.forward(value, shapes, locations, weights)),
        "backward": (BACKWARD, lambda: cuda.backward(grad, value, shapes, locations, weights, True)),
    }
    for part, (choices, work) in parts.items():
        for choice in choices:
            with chosen(choice):
                measured(rows, call, batch, SHORT[dtype], part, choice.name, work)


def threshold(rows: list, batch: int, dtype: torch.dtype) -> None:
    """Both ways over the reads of each pixel: the injector's levels with few queries up to many."""
    for queries in (64, 128, 256, 512, 1024, 2048, 4096):
        with mock.patch.dict(SHAPES, {"injector": (SHAPES["injector"][0], queries)}):
            arguments = problem("injector", batch, dtype)
        reads = 4 * queries * 12 / arguments[1].shape[1]
        for scatter in (True, False):
            name = f"{reads:.2f} reads a pixel, {'atomics' if scatter else 'sorted'}"
            work = lambda a=arguments, s=scatter: cuda.backward(*a, not s, scatter=s)  # noqa: E731
            measured(rows, "injector", batch, SHORT[dtype], "backward", name, work)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    works, why = cuda.usable()
    if not works:
        print(f"needs a GPU: {why}")
        return 0
    rows: list = []
    for dtype in SHORT:
        for call in SHAPES:
            sweep(rows, call, options.batch, dtype)
        threshold(rows, options.batch, dtype)
    if options.csv:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())

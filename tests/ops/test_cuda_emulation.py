"""The GPU kernels' own source on an emulated device: index arithmetic, synchronisation and memory, without a GPU."""

import contextlib
import ctypes
import math
import os
import platform
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch

from benchmark.ops import cuda, ms_deform_attn
from benchmark.ops.cuda import plan, sources
from benchmark.ops.cuda.layout import Layout, Levels
from benchmark.runtime.paths import ROOT
from tests.support.attention import COMMITTED, TOLERANCE, committed, problem
from tests.support.cuda_emulation.machine import COMPILER, Emulated, address_sanitizer, constants
from tests.support.shared import SHARED, shared

pytestmark = pytest.mark.skipif(
    COMPILER is None or platform.machine() not in ("x86_64", "AMD64"),
    reason="needs g++ on x86-64: the emulated threads switch by its registers",
)
OTHERS = sorted({p.stem for p in (SHARED / "golden/op").glob("*.npz")} - set(COMMITTED))


@pytest.fixture(autouse=True)
def poisoned():
    """torch.empty gives NaN: what no kernel writes shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


WAYS = {"summed": 0, "gathered": math.inf}  # of grad_value without atomics: values.cu, or gather.cu where it fits


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    monkeypatch.setattr(plan, "GATHER_READS", WAYS[request.param])
    return request.param


def distance(found: torch.Tensor, expected) -> float:
    found, expected = found.detach().double().numpy(), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    norm = np.linalg.norm(expected)
    error = np.linalg.norm(found - expected) / norm if norm else np.abs(found).max(initial=0)
    return float(error) if np.isfinite(found).all() else float("inf")


def check_golden(case: dict, dtype: torch.dtype, machine: Emulated) -> None:
    exact = torch.promote_types(dtype, torch.float32)
    value, grad_output = (torch.tensor(case[k]).to(dtype) for k in ("value", "grad_out"))
    locations, weights = (torch.tensor(case[k]).to(exact) for k in ("loc", "weights"))
    shapes = [tuple(shape) for shape in case["shapes"].tolist()]
    limit = TOLERANCE[dtype]
    assert distance(plan.forward(machine, value, shapes, locations, weights), case["out"]) <= limit
    for scatter in (False, True):
        found = plan.backward(machine, grad_output, value, shapes, locations, weights, scatter)
        assert [f.dtype for f in found] == [dtype, exact, exact]
        assert distance(found[0], case["grad_value"]) <= limit
        assert min(distance(found[1], case[k]) for k in ("grad_loc", "grad_loc_cuda") if k in case) <= limit
        assert distance(found[2], case["grad_weights"]) <= limit


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", COMMITTED)
def test_equals_official_op(name, dtype, way):
    check_golden(committed(name), dtype, Emulated(seed=7))


@pytest.mark.parametrize("name", OTHERS)
def test_equals_official_op_in_other_cases(name, way):
    case = dict(np.load(shared(f"golden/op/{name}.npz")))
    # a width is a compilation for each dtype: all four for the common one only
    for dtype in TOLERANCE if case["value"].shape[3] == 8 else (torch.float32, torch.bfloat16):
        check_golden(case, dtype, Emulated(seed=7))


def check_reference(machines: list[Emulated], grad_output, value, shapes, locations, weights) -> None:
    """Equal to the reference in double precision; all machines the same to the bit but for atomics."""
    inputs = [t.double().requires_grad_() for t in (value, locations, weights)]
    out = ms_deform_attn(inputs[0], shapes, *inputs[1:], backend="reference")
    expected = [out.detach(), *torch.autograd.grad(out, inputs, grad_output.double())]
    seen = []
    for machine in machines:
        found = [plan.forward(machine, value, shapes, locations, weights)]
        found += plan.backward(machine, grad_output, value, shapes, locations, weights, False)
        atomic = plan.backward(machine, grad_output, value, shapes, locations, weights, True)
        for pair in zip([*found, *atomic], [*expected, *expected[1:]]):
            assert distance(*pair) <= TOLERANCE[value.dtype]
        seen.append([*found, *atomic[1:]])
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other))


@pytest.mark.parametrize("channels", [7, 96, 1025])
def test_widths(channels, way):
    """Idle lanes, several items per lane, several slabs."""
    check_reference([Emulated(), Emulated(seed=1)], *problem(channels, queries=9))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orders_of_threads(dtype):
    """Forward and sorted backward give the same bits in whatever order threads and blocks run, and for any grid."""
    machines = [Emulated(), *(Emulated(seed=s) for s in (1, 2, 3)), Emulated(seed=4, grid=1), Emulated(grid=2)]
    arguments = problem(shapes=((5, 9), (4, 4)), queries=181, points=6, dtype=dtype)
    check_reference(machines, *arguments)
    assert {"forward_tile", "values_and_points", "combine_splits"} <= set(machines[0].launched)


def test_a_tile_of_two_ranges(monkeypatch):
    monkeypatch.setattr(plan, "GATHER_READS", 0)
    machines = [Emulated(), Emulated(seed=1), Emulated(seed=2, grid=2)]
    check_reference(machines, *problem(shapes=((17, 16),), queries=181, points=6))
    assert {"points_tile", "values_staged"} <= set(machines[0].launched)


@pytest.mark.parametrize("channels", [1, 2, 30, 64, 96])
def test_both_halves_in_one_walk(channels):
    """Groups of 1, 2, 8, 16 and 32 lanes; several entries of a pixel at a time, and fewer than a turn takes."""
    machines = [Emulated(), Emulated(seed=1)]
    check_reference(machines, *problem(channels, shapes=((3, 4), (2, 2)), queries=33, points=3))
    assert "values_and_points" in machines[0].launched


def test_many_pixels(monkeypatch):
    """More than one range per head, levels that a range does not touch, no tile in shared memory."""
    monkeypatch.setattr(plan, "GATHER_READS", 0)
    machine, rows = Emulated(seed=1), {}
    start = machine.launch
    machine.launch = lambda *given: (rows.update({given[2]: given[-1][-1].value}), start(*given))
    check_reference([machine, Emulated()], *problem(shapes=((40, 41), (2, 3), (9, 5)), queries=30))
    assert "forward_global" in machine.launched
    assert rows["values_direct"] == 1024  # a range of one level fills its threads, whatever the other levels have


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("channels", [8, 30])
def test_few_reads_of_many_pixels(channels, dtype):
    """Several tiles of a head, pixels that nobody reads, a crowded one; any order of threads, any grid."""
    shapes = ((40, 41), (1, 1), (9, 5))
    machines = [Emulated(), Emulated(seed=1), Emulated(seed=2, grid=3), Emulated(grid=1)]
    check_reference(machines, *problem(channels, shapes=shapes, queries=30, dtype=dtype))
    assert {"sort_corners", "gather_values"} <= set(machines[0].launched)


def test_gathers_where_a_level_has_no_pixels(monkeypatch):
    """`ms_deform_attn` refuses such levels, so there is no reference: the other way's results."""
    arguments, seen = problem(shapes=((6, 5), (0, 7), (4, 0))), []
    for reads in WAYS.values():
        monkeypatch.setattr(plan, "GATHER_READS", reads)
        seen.append(plan.backward(Emulated(), *arguments, False))
    assert all(a.isfinite().all() and torch.allclose(a, b, atol=1e-5) for a, b in zip(*seen))


def test_more_corners_than_shared_memory(monkeypatch):
    """Entries that are put in order in global memory; then too many corners to be sorted at all."""
    monkeypatch.setattr(plan, "GATHER_READS", math.inf)
    arguments = problem(shapes=((9, 9),), queries=500, points=4)
    corners, launched = 4 * 500 * 4, []
    layout = Layout(torch.float32, 8, 4)
    for staged, less in ((True, 0), (False, 0), (False, 16)):
        limit = layout.sort_bytes(corners, 81, plan.SORT_THREADS, staged) - less
        machine = Emulated(seed=1, shared_limit=limit)
        sorted_way = plan.sorted_way(machine, layout, plan._Problem(arguments[1], arguments[2], arguments[3]))
        launched.append((sorted_way.fits, sorted_way.staged) if isinstance(sorted_way, plan._Gathering) else None)
        if launched[-1]:
            check_reference([machine, Emulated()], *arguments)
    assert launched == [(True, True), (True, False), None]


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize(
    "side, queries, room, expected",
    [
        (40, 30, True, "gather_values"),  # 0.3 reads a pixel
        (9, 120, True, "gather_values"),  # 23.7
        (9, 130, True, "values_"),  # 25.7: read more often than GATHER_READS
        (40, 30, False, "scatter"),  # no room for the table of a level's pixels
        (40, 300, False, "values_"),  # 3.0: read more often than SCATTER_READS, too
    ],
)
def test_default_way(monkeypatch, deterministic, side, queries, room, expected):
    """Atomics only where gathering does not fit and pixels are read seldom; never where the bits must be the same."""
    arguments = problem(shapes=((side, side),), queries=queries, points=4)
    if not room:  # in the place of a small device, which values.cu would not fit either
        monkeypatch.setattr(Layout, "sort_bytes", lambda *sizes: 2**30)
    machine = Emulated(seed=1)
    monkeypatch.setattr(cuda, "_gpu", lambda value: machine)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    cuda.backward(*arguments, deterministic)
    expected = "values_" if deterministic and expected == "scatter" else expected
    assert any(expected in kernel for kernel in machine.launched), machine.launched


def test_default_at_the_shapes_of_cellvta():
    """On a GPU with 227 KB of shared memory: what measurements say is the fastest."""
    ways = {}
    for name, shapes, queries in (("injector", ((64, 64), (32, 32), (16, 16)), 256), ("extractor", ((16, 16),), 5376)):
        for dtype in (torch.float32, torch.bfloat16):
            arguments = problem(64, shapes=shapes, queries=queries, points=4, batch=1, heads=1, dtype=dtype)
            asked = plan._Problem(*arguments[1:4])
            way = plan.sorted_way(Emulated(multiprocessors=132), Layout(dtype, 64, 16 // dtype.itemsize), asked)
            ways.setdefault(name, set()).add(type(way))
    assert ways == {"injector": {plan._Gathering}, "extractor": {plan._Sorting}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_more_samples_than_a_block_sorts(dtype, way):
    """Crowded, too: hundreds of corners on one pixel."""
    arguments = problem(shapes=((2, 2), (1, 3)), queries=3, points=600, batch=1, dtype=dtype)
    check_reference([Emulated(), Emulated(seed=1)], *arguments)


def test_little_shared_memory(monkeypatch):
    monkeypatch.setattr(plan, "GATHER_READS", 0)
    arguments = problem(shapes=((16, 16),), queries=100, points=4)
    machine = Emulated(shared_limit=60 * 1024, seed=1)
    check_reference([machine], *arguments)
    least = Layout(torch.float32, 8, 4).values_bytes(0)
    machine = Emulated(shared_limit=least + 80, seed=1)
    check_reference([machine], *arguments)
    assert "values_direct" in machine.launched


def test_strange_tensors():
    """Expanded, strided and misaligned ones; weights in value's dtype; a location per dtype."""
    grad_output, value, shapes, locations, weights = problem()
    crooked = torch.empty(value.numel() + 1)[1:].view_as(value).copy_(value)
    assert crooked.data_ptr() % 16 and crooked.is_contiguous()
    check_reference([Emulated()], grad_output, crooked, shapes, locations, weights)
    turned = value.transpose(1, 2).contiguous().transpose(1, 2)
    check_reference([Emulated()], grad_output, turned, shapes, locations, weights)
    flat = torch.ones(1).expand_as(grad_output)
    check_reference([Emulated()], flat, value[:1].expand_as(value), shapes, locations[:1].expand_as(locations), weights)
    half = weights.bfloat16()
    found = plan.backward(Emulated(), grad_output, value, shapes, locations.double(), half, False)
    assert [f.dtype for f in found] == [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("empty", [{"batch": 0}, {"queries": 0}, {"heads": 0}, {"points": 0}])
def test_empty(empty):
    machine = Emulated()
    grad_output, value, shapes, locations, weights = problem(**empty)
    out = plan.forward(machine, value, shapes, locations, weights)
    assert out.shape == grad_output.shape and not out.any() and not machine.launched
    for found, tensor in zip(
        plan.backward(machine, grad_output, value, shapes, locations, weights, False), (value, locations, weights)
    ):
        assert found.shape == tensor.shape and not found.any()


def test_not_numbers_stay_where_they_are(way):
    """A NaN location counts as outside; a NaN or infinite pixel reaches only the samples that touch it."""
    grad_output, value, shapes, locations, weights = problem()
    locations[0, 0] = torch.tensor([float("nan"), float("inf")])
    locations[0, 1] = 1e30
    clean = plan.forward(Emulated(), value, shapes, locations, weights)
    assert not clean[0, :2].any()
    grads = plan.backward(Emulated(), grad_output, value, shapes, locations, weights, False)
    assert all(g.isfinite().all() for g in grads) and not grads[1][0, :2].any() and not grads[2][0, :2].any()
    locations[..., :] = locations.nan_to_num(0.1).clamp(0.7, 0.9)  # away from the first pixel of either level
    value[:, 0] = float("inf")
    for scatter in (False, True):
        found = plan.backward(Emulated(), grad_output, value, shapes, locations, weights, scatter)
        assert all(f.isfinite().all() for f in found)
    assert plan.forward(Emulated(), value, shapes, locations, weights).isfinite().all()


def test_host_knows_the_source_constants():
    layouts = [Layout(torch.float32, 64, 4), Layout(torch.bfloat16, 64, 8), Layout(torch.float64, 8, 2)]
    layouts += [Layout(torch.float32, channels, 1) for channels in (7, 1025)]
    for layout in layouts:
        expected = [layout.lanes, layout.items, layout.slabs, layout.pitch, layout.range, layout.values_threads]
        assert list(constants(layout).values()) == [*expected, ctypes.sizeof(Levels)]


@pytest.mark.parametrize(
    "old, new, index",
    [
        ("__syncwarp();", "", 0),
        ("__syncthreads();", "", 2),
        ("sample.held >> c & 1 ? across", "true ? across", 0),
        ("warps * PLACES)", "warps * PLACES + 4)", 0),
    ],
)
def test_emulation_notices_faults(old, new, index):
    """A missing barrier, a forgotten border, too much shared memory: the checks above must not pass then."""
    arguments = problem(8, shapes=((5, 9), (4, 4)), queries=181, points=6)
    with pytest.raises((AssertionError, RuntimeError)):
        check_reference([Emulated(seed=s, change=(old, new, index)) for s in (1, 2, 3)], *arguments)


def check_races(change=None) -> set[str]:
    machine = Emulated(seed=1, grid=2, sanitize="races", change=change)
    check_reference([machine], *problem(shapes=((5, 9), (4, 4)), queries=181, points=6))
    for reads in WAYS.values():
        with mock.patch.object(plan, "GATHER_READS", reads):
            check_reference([machine], *problem(shapes=((17, 16),), queries=181, points=6))
            check_reference([machine], *problem(shapes=((40, 41), (2, 3)), queries=13))
    return set(machine.launched)


def test_no_races():
    """A barrier between any two uses of shared memory that need one, whatever the order that threads ran in."""
    assert len(check_races()) == sum(map(len, sources.FAMILIES.values()))


@pytest.mark.parametrize("barrier, index", [("__syncthreads();", 1), ("__syncwarp();", 5)])
def test_races_are_noticed(barrier, index):
    """Before a tile is overwritten; before products replace factors, where an emulated shuffle hides the order."""
    with pytest.raises(RuntimeError, match="races with"):
        check_races((barrier, "", index))


@pytest.mark.parametrize("barrier", range(4))
def test_races_of_the_sort_are_noticed(barrier):
    """Before corners are counted, before the counts are summed, before corners are placed, before they are ranked."""
    first = sources.shared_source().count("__syncthreads();")
    others = [sources.own_source(family) for family in sources.FAMILIES if family != "gather"]
    first += sum(source.count("__syncthreads();") for source in others)
    machine = Emulated(seed=1, grid=2, sanitize="races", change=("__syncthreads();", "", first + barrier))
    with pytest.raises(RuntimeError, match=r"sort_corners.*(races with|that no thread)"):
        check_reference([machine], *problem(shapes=((40, 41), (2, 3)), queries=130))


def test_no_access_outside_its_memory():
    """The same under the address sanitizer, which has to be there from the process's start."""
    if not (runtime := address_sanitizer()):
        pytest.skip("needs g++'s address sanitizer")
    settings = "detect_leaks=0:alloc_dealloc_mismatch=0:detect_odr_violation=0:exitcode=77"
    environment = os.environ | {"LD_PRELOAD": runtime, "ASAN_OPTIONS": settings, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.support.cuda_emulation.sanitized"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stderr.count("ERROR: AddressSanitizer: heap-buffer-overflow") == 3  # the faults made on purpose

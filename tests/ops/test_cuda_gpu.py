"""The GPU backend on a GPU; without one every test here skips. Run by `perf/gpu_check.sh`."""

import importlib.util
import math
import os
import shutil
import sysconfig
from pathlib import Path
from unittest import mock

import pytest
import torch

from benchmark.ops import MSDeformAttn, cuda, ms_deform_attn
from benchmark.ops.cuda import plan
from tests.support.attention import COMMITTED, TOLERANCE, committed, problem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
WIDTHS = [1, 7, 8, 30, 32, 63, 64, 96, 128, 160, 256, 1025]


@pytest.fixture(autouse=True)
def poisoned():
    """torch.empty gives NaN: what no kernel writes shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def distance(found: torch.Tensor, expected) -> float:
    expected = torch.as_tensor(expected, dtype=torch.float64, device=found.device)
    assert found.shape == expected.shape and found.isfinite().all()
    norm = expected.norm()
    error = (found.detach().double() - expected).norm() / norm if norm else found.abs().max()
    return float(error)


def to(arguments, device="cuda"):
    return [a.to(device) if isinstance(a, torch.Tensor) else a for a in arguments]


def run(arguments, backend="cuda", deterministic=True):
    """Output and three gradients by autograd."""
    grad_output, value, shapes, locations, weights = arguments
    inputs = [t.detach().clone().requires_grad_() for t in (value, locations, weights)]
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    out = ms_deform_attn(inputs[0], shapes, *inputs[1:], backend=backend)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad_output)]


def check(arguments, slack=1, **options):
    grad_output, value, shapes, locations, weights = arguments
    doubles = [grad_output.double(), value.double(), shapes, locations.double(), weights.double()]
    found, expected = run(arguments, **options), run(doubles, "reference")
    for pair in zip(found, expected):
        assert distance(*pair) <= slack * TOLERANCE[value.dtype]
    if not options.get("deterministic", True):  # by atomics, which the default hardly ever takes
        for pair in zip(cuda.backward(*arguments, False, scatter=True), expected[1:]):
            assert distance(*pair) <= slack * TOLERANCE[value.dtype]
        return
    for reads in (0, math.inf):  # summed by values.cu, gathered by gather.cu where it fits
        with mock.patch.object(plan, "GATHER_READS", reads):
            seen = [cuda.backward(*arguments, True) for _ in range(2)]
        assert all(torch.equal(a, b) for a, b in zip(*seen))
        for pair in zip(seen[0], expected[1:]):
            assert distance(*pair) <= slack * TOLERANCE[value.dtype]


def test_usable():
    assert cuda.usable() == (True, "")


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", COMMITTED)
def test_equals_official_op(name, dtype, deterministic):
    case = {k: torch.from_numpy(array) for k, array in committed(name).items()}
    exact = torch.promote_types(dtype, torch.float32)
    shapes = [tuple(shape) for shape in case["shapes"].tolist()]
    arguments = to([case["grad_out"].to(dtype), case["value"].to(dtype), shapes])
    arguments += to([case["loc"].to(exact), case["weights"].to(exact)])
    out, *grads = run(arguments, deterministic=deterministic)
    assert distance(out, case["out"]) <= TOLERANCE[dtype]
    assert distance(grads[0], case["grad_value"]) <= TOLERANCE[dtype]
    accepted = [case[k] for k in ("grad_loc", "grad_loc_cuda") if k in case]
    assert min(distance(grads[1], g) for g in accepted) <= TOLERANCE[dtype]
    assert distance(grads[2], case["grad_weights"]) <= TOLERANCE[dtype]
    if name == "all_zero_weights":
        assert not out.any() and not grads[0].any() and not grads[1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", WIDTHS)
def test_widths(channels, dtype):
    check(to(problem(channels, queries=37, dtype=dtype)))
    check(to(problem(channels, queries=37, dtype=dtype)), deterministic=False)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_tile_of_two_ranges(dtype):
    check(to(problem(64, shapes=((17, 16),), queries=700, points=4, dtype=dtype)))


@pytest.mark.parametrize("batch", [1, 2, 65, 97, 130])
def test_batches(batch):
    check(to(problem(16, batch=batch)))


@pytest.mark.parametrize("empty", [{"batch": 0}, {"queries": 0}])
def test_empty(empty):
    arguments = to(problem(**empty))
    for found, tensor in zip(run(arguments), (arguments[0], arguments[1], *arguments[3:])):
        assert found.shape == tensor.shape and not found.any()


def cellvta(call: str, batch=2, dtype=torch.float32):
    shapes, queries = {"injector": (((64, 64), (32, 32), (16, 16)), 256), "extractor": (((16, 16),), 5376)}[call]
    arguments = problem(64, shapes=shapes, queries=queries, points=4, batch=batch, heads=8, dtype=dtype)
    arguments = to(arguments)
    arguments[3] = exact_pixels(arguments[3])
    return arguments


def exact_pixels(locations: torch.Tensor) -> torch.Tensor:
    """Whose pixel coordinates float32 holds exactly, for sides up to 64 that are powers of two; none on a pixel.

    Rounding others moves a few of so many samples across a pixel, where the gradient of the location jumps.
    """
    return ((locations * 8192).floor() + 0.5) / 8192


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("call", ["injector", "extractor"])
def test_cellvta_shapes(call, dtype):
    arguments = cellvta(call, dtype=dtype)
    check(arguments)
    check(arguments, deterministic=False)
    atomic = cuda.backward(*arguments, False, scatter=True)
    for pair in zip(atomic, cuda.backward(*arguments, True)):
        assert distance(*pair) <= 2 * TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("call", ["injector", "extractor"])
def test_same_bits_ten_times(call, dtype):
    arguments = cellvta(call, dtype=dtype)
    first = run(arguments)
    for _ in range(9):
        assert all(torch.equal(a, b) for a, b in zip(first, run(arguments)))


@pytest.mark.parametrize("call", ["injector", "extractor"])
def test_deep_overlap(call):
    """All samples on one pixel: the worst crowd for sorting and for atomics."""
    arguments = cellvta(call, batch=1)
    arguments[3] = exact_pixels(torch.full_like(arguments[3], 0.4) + torch.rand_like(arguments[3]) * 0.005)
    check(arguments, slack=10)  # sums of 20,000 numbers
    check(arguments, slack=10, deterministic=False)


def test_strange_tensors():
    grad_output, value, shapes, locations, weights = to(problem())
    crooked = torch.empty(value.numel() + 1, device="cuda")[1:].view_as(value).copy_(value)
    assert crooked.data_ptr() % 16
    expected = cuda.forward(value, shapes, locations, weights)
    assert distance(cuda.forward(crooked, shapes, locations, weights), expected.cpu()) <= 2e-6
    turned = value.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(cuda.forward(turned, shapes, locations, weights), expected)
    gradient = torch.ones(1, device="cuda").expand_as(grad_output)
    expected = cuda.backward(gradient.contiguous(), value, shapes, locations, weights, True)
    assert all(map(torch.equal, cuda.backward(gradient, value, shapes, locations, weights, True), expected))


def test_finite_differences():
    _, value, shapes, locations, weights = to(problem(3, batch=1, heads=1, dtype=torch.float64))
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    assert torch.autograd.gradcheck(lambda v, l, w: ms_deform_attn(v, shapes, l, w, backend="cuda"), inputs)


def test_other_device_than_the_current():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    arguments = problem()
    with torch.cuda.device(0):
        found = run(to(arguments, "cuda:1"))
        assert torch.cuda.current_device() == 0
    assert all(t.device == torch.device("cuda:1") for t in found)
    assert all(distance(a.cpu(), b.cpu()) <= 2e-6 for a, b in zip(found, run(to(arguments, "cuda:0"))))


def test_side_stream():
    """Inputs that appear late on a side stream: the kernels must wait for them there."""
    arguments = to(problem(64, queries=300))
    expected = run(arguments)
    late = [torch.zeros_like(a) if isinstance(a, torch.Tensor) else a for a in arguments]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)  # clock cycles
        for empty, full in zip(late, arguments):
            if isinstance(full, torch.Tensor):
                empty.copy_(full)
        found = run(late)
    stream.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


def capture(work) -> tuple[torch.cuda.CUDAGraph, list]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = work()
    return graph, out


@pytest.mark.parametrize("scatter", [True, False])
def test_graph_replay(scatter):
    first, second = to(problem(64, queries=300)), to(problem(64, queries=300))
    second[1], second[3] = second[1] + 1, 1 - second[3]
    torch.use_deterministic_algorithms(False)

    def step(a):
        return [cuda.forward(*a[1:]), *cuda.backward(*a, not scatter, scatter=scatter)]

    static = [a.clone() if isinstance(a, torch.Tensor) else a for a in first]
    step(static)
    torch.cuda.synchronize()
    graph, out = capture(lambda: step(static))
    for arguments in (second, first):
        for slot, new in zip(static, arguments):
            if isinstance(new, torch.Tensor):
                slot.copy_(new)
        graph.replay()
        for pair in zip(out, step(arguments)):
            assert distance(pair[0], pair[1].cpu()) <= 2e-6


def test_first_call_inside_a_capture():
    """Through autograd, whose backward runs in a thread of its own; no kernel of this width is loaded before."""
    arguments = to(problem(44, queries=20))
    inputs = [t.requires_grad_() for t in (arguments[1], *arguments[3:])]
    torch.use_deterministic_algorithms(False)

    def step():
        out = ms_deform_attn(inputs[0], arguments[2], *inputs[1:], backend="cuda")
        return [out.detach(), *torch.autograd.grad(out, inputs, arguments[0])]

    torch.cuda.synchronize()
    graph, found = capture(step)
    graph.replay()
    for pair in zip(found, step()):
        assert distance(pair[0], pair[1].cpu()) <= 2e-6


def test_nothing_waits_for_the_device():
    arguments = to(problem(64, queries=300))
    run(arguments)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast(dtype):
    torch.manual_seed(0)
    layer = MSDeformAttn(64, heads=4, levels=1, points=4, backend="cuda").cuda()
    query, features = torch.randn(2, 50, 64, device="cuda"), torch.randn(2, 64, 64, device="cuda")
    reference = torch.rand(1, 50, 1, 2, device="cuda")
    exact = layer(query, reference, features, [(8, 8)])
    with torch.autocast("cuda", dtype):
        out = layer(query, reference, features, [(8, 8)])
    assert out.dtype == dtype and distance(out, exact.detach().cpu()) < 5e-2
    out.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def inductor_missing() -> str | None:
    """Why torch.compile's own code generator cannot run here."""
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        return "Triton needs a C compiler"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Triton needs Python's headers"
    return None if importlib.util.find_spec("triton") else "Triton is not installed"


@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_compile(compiler):
    if compiler == "inductor" and (why := inductor_missing()):
        pytest.skip(why)
    grad_output, value, shapes, locations, weights = to(problem(64, queries=50))

    def form(v, l, w):
        return ms_deform_attn(v * 2, shapes, l, w, backend="cuda") + 1

    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    torch.compiler.reset()
    compiled = torch.compile(form, fullgraph=True, backend=compiler)
    for found, expected in zip(
        [compiled(*inputs), *torch.autograd.grad(compiled(*inputs), inputs, grad_output)],
        [form(*inputs), *torch.autograd.grad(form(*inputs), inputs, grad_output)],
    ):
        assert distance(found, expected.detach().cpu()) <= 2e-6


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_nccl_available()), reason="needs NCCL"
)
def test_data_parallel(tmp_path):
    torch.use_deterministic_algorithms(False)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    torch.distributed.init_process_group("nccl", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        layer = MSDeformAttn(32, heads=4, backend="cuda").cuda()
        parallel = torch.nn.parallel.DistributedDataParallel(layer, device_ids=[torch.cuda.current_device()])
        query, features = torch.randn(2, 9, 32, device="cuda"), torch.randn(2, 64, 32, device="cuda")
        parallel(query, torch.rand(1, 9, 1, 2, device="cuda"), features, [(8, 8)]).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    finally:
        torch.distributed.destroy_process_group()


def needs(gigabytes: int) -> None:
    free = torch.cuda.mem_get_info()[0] / 2**30
    if free < gigabytes:
        pytest.skip(f"needs {gigabytes} GiB of free memory on the GPU, found {free:.0f}")


def test_more_than_2_31_values():
    needs(40)
    torch.use_deterministic_algorithms(False)  # nothing is to be filled with NaN: it takes its time at this size
    height, width, heads, channels = 1050, 1000, 8, 128
    value = torch.empty(2, height * width, heads, channels, dtype=torch.bfloat16, device="cuda").normal_()
    assert value.numel() > 2**31
    _, _, _, locations, weights = to(problem(1, shapes=((height, width),), queries=64, points=4, heads=heads))
    locations[-1, -1] = 1 - 0.5 / height  # the very last pixels
    grad_output = torch.randn(2, 64, heads * channels, device="cuda").bfloat16()
    shapes = [(height, width)]
    last = [t[1:].contiguous() for t in (grad_output, value, locations, weights)]
    expected = cuda.forward(last[1], shapes, *last[2:])
    assert expected.any() and torch.equal(cuda.forward(value, shapes, locations, weights)[1:], expected)
    expected = cuda.backward(last[0], last[1], shapes, *last[2:], True)
    for scatter in (False, True):
        found = cuda.backward(grad_output, value, shapes, locations, weights, not scatter, scatter=scatter)
        for whole, part in zip(found, expected):
            assert (whole[1:] - part).float().norm() <= 6e-3 * part.float().norm()
        del found, whole


def test_more_than_2_31_locations():
    needs(50)
    torch.use_deterministic_algorithms(False)
    queries, heads, channels = 34_000_000, 8, 8
    value = torch.randn(1, 64, heads, channels, device="cuda").bfloat16()
    locations = torch.rand(1, queries, heads, 1, 4, 2, device="cuda")
    weights = torch.rand(1, queries, heads, 1, 4, device="cuda")
    assert locations.numel() > 2**31 and queries * heads * channels > 2**31
    out = cuda.forward(value, [(8, 8)], locations, weights)
    tail = [t[:, -999:].contiguous() for t in (locations, weights)]
    assert torch.equal(out[:, -999:], cuda.forward(value, [(8, 8)], *tail))
    grads = cuda.backward(out, value, [(8, 8)], locations, weights, True)
    expected = cuda.backward(out[:, -999:].contiguous(), value, [(8, 8)], *tail, True)
    for whole, part in zip(grads[1:], expected[1:]):
        assert part.any() and torch.equal(whole[:, -999:], part)

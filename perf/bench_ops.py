"""Deformable attention at CellVTA's shapes: every backend beside the grid_sample formulation and, where they are
installed, mmcv and torch-ms-deform-attn (Deformable DETR's kernels), in one run.

    python perf/bench_ops.py                    # CPU, one thread, B = 1 and 4; or a GPU, B = 16

Implementations take turns of several calls; the best call counts, in process time on a CPU (other programs do not
count) and in the GPU's own time on a GPU (launches do not count, the L2 cache is cold).
Writes <out>/<hardware>.csv case by case, at the end .png and .pdf too, and prints ratios to the grid_sample formulation
(> 1 is faster); after --limit seconds no other case is begun.
"""

import argparse
import functools
import math
import re
import time
from pathlib import Path

import gpu_time
import torch
import torch.nn.functional as F
from arguments import positive
from csv_rows import Rows

from benchmark.layers.global_attention import reference_points
from benchmark.ops import backends, ms_deform_attn

GRIDS = [(64, 64), (32, 32), (16, 16)]  # of a 256 x 256 image at strides 4, 8 and 16
HEADS, CHANNELS, POINTS = 8, 64, 4  # ViT-L
SHAPES = {"extractor": (GRIDS, GRIDS[-1:]), "injector": (GRIDS[-1:], GRIDS)}  # grids of the queries, of the values
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
BASE = "grid_sample"
COLUMNS = ("shape", "batch", "dtype", "pass", "implementation", "ms", "ratio", "bytes_per_s", "of_floor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=positive, default=1, help="of the CPU (default 1)")
    parser.add_argument("--batch", type=positive, nargs="+", help="default: 1 4 on a CPU, 16 on a GPU")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["fp32"])
    parser.add_argument("--rounds", type=positive, default=3, help="turns of every implementation (default 3)")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which no case is begun")
    parser.add_argument("--out", type=Path, default=Path("reports/ops"))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    machine = hardware(device)
    stem = chosen.out / re.sub(r"\W+", "_", machine).strip("_")
    rows = Rows(stem.with_name(f"{stem.name}.csv"), COLUMNS, chosen.limit, hardware=machine)
    print(f"{machine}; torch {torch.__version__}; {chosen.threads} CPU thread(s)")
    for name, (works, why) in backends().items():
        print(f"  {name}: {'works' if works else why}")
    for shape in SHAPES:
        for dtype in chosen.dtype:
            for batch in chosen.batch or ((16,) if device.type == "cuda" else (1, 4)):
                measure(rows, shape, batch, dtype, device, chosen.rounds)
    if rows.rows:
        means(rows.rows)
        plot(rows.rows, stem, machine)


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {torch.backends.cpu.get_cpu_capability()}"


def case(shape: str, batch: int, dtype: str, device: torch.device) -> tuple:
    """Value, shapes, locations, weights and the gradient of the output; samples lie a few pixels around each query."""
    rng = torch.Generator().manual_seed(0)
    of_queries, of_values = SHAPES[shape]
    exact = torch.promote_types(DTYPES[dtype], torch.float32)
    points = reference_points(of_queries).to(exact)
    size = (batch, points.shape[1], HEADS, len(of_values), POINTS)
    length = sum(h * w for h, w in of_values)
    value = torch.randn(batch, length, HEADS, CHANNELS, generator=rng).to(DTYPES[dtype])
    sides = torch.tensor([(w, h) for h, w in of_values], dtype=exact)[:, None]
    offsets = 2 * torch.randn(*size, 2, generator=rng, dtype=exact)
    locations = points[:, :, None, :, None, :] + offsets / sides
    weights = torch.rand(*size, generator=rng, dtype=exact).flatten(3).softmax(-1).view(size)
    grad = torch.randn(batch, size[1], HEADS * CHANNELS, generator=rng).to(DTYPES[dtype])
    value, locations, weights, grad = (t.to(device) for t in (value, locations, weights, grad))
    return value.requires_grad_(), of_values, locations.requires_grad_(), weights.requires_grad_(), grad


def grid_sample_form(value, shapes, locations, weights):
    """The common formulation without a kernel: grid_sample per level, then the weighted sum; in locations' dtype."""
    batch, _, heads, channels = value.shape
    grids = 2 * locations - 1
    samples = []
    for level, part in enumerate(value.to(locations.dtype).split([h * w for h, w in shapes], 1)):
        maps = part.flatten(2).transpose(1, 2).reshape(batch * heads, channels, *shapes[level])
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        samples.append(F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
    factors = weights.transpose(1, 2).reshape(batch * heads, 1, locations.shape[1], -1)
    out = (torch.stack(samples, -2).flatten(-2) * factors).sum(-1)
    return out.view(batch, heads * channels, -1).transpose(1, 2).contiguous().to(value.dtype)


def mmcv_form(device: torch.device):
    """mmcv's op, or None where it is not installed or not built for `device`."""
    try:
        from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
    except ImportError:
        return None
    if device.type != "cuda":
        return None

    def call(value, shapes, locations, weights):
        return MultiScaleDeformableAttnFunction.apply(value, *levels(tuple(shapes), device), locations, weights, 64)

    return call


def detr_form(device: torch.device):
    """torch-ms-deform-attn, Deformable DETR's kernels built for CPUs and GPUs; None where it is not installed."""
    try:
        from torch_ms_deform_attn import ms_deform_attn as attend
    except ImportError:
        return None

    def call(value, shapes, locations, weights):
        exact = value.to(locations.dtype)  # it computes half precision so, and wants all inputs of one dtype
        return attend(exact, *levels(tuple(shapes), device), locations, weights).to(value.dtype)

    return call


@functools.cache  # copying them to the GPU waits for it
def levels(shapes: tuple, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Sides and first pixels of the levels, as the peers want them."""
    sides = torch.tensor(shapes, device=device)
    return sides, torch.cat([sides.new_zeros(1), sides.prod(1).cumsum(0)[:-1]])


def implementations(device: torch.device) -> dict:
    calls = {BASE: grid_sample_form, "torch": ours("torch")}
    for name in ("cpu", "cuda"):
        if name == device.type and backends()[name][0]:
            calls[name] = ours(name)
    for name, peer in (("mmcv", mmcv_form), ("torch-ms-deform-attn", detr_form)):
        if call := peer(device):
            calls[name] = call
    return calls


def ours(backend: str):
    return lambda *inputs: ms_deform_attn(*inputs, backend=backend)


def measure(rows: Rows, shape: str, batch: int, dtype: str, device: torch.device, rounds: int) -> None:
    *inputs, grad = case(shape, batch, dtype, device)
    value, _, locations, weights = inputs

    def forward(call):
        with torch.no_grad():
            call(*inputs)

    def both(call):
        torch.autograd.grad(call(*inputs), (value, locations, weights), grad)

    read = sum(t.numel() * t.element_size() for t in (value, locations, weights))
    written = grad.numel() * grad.element_size()
    calls = implementations(device)
    for name, work, moved in (
        ("forward", forward, read + written),
        ("forward+backward", both, 3 * read + 2 * written),
    ):
        if rows.is_up:
            print(f"{shape:9s} B={batch:<2d} {dtype} {name:16s} not run, the time is up", flush=True)
            continue
        best = {label: math.inf for label in calls}
        for _ in range(rounds):
            for label, call in calls.items():
                # the first of each turn warms up
                times = seconds(work, call, device)
                best[label] = min(best[label], *times[1:])
        floor = gpu_time.floor(read, written, device) if device.type == "cuda" else ()
        least = floor and (floor[0] if name == "forward" else sum(floor))
        for label, took in best.items():
            row = (shape, batch, dtype, name, label, 1e3 * took, best[BASE] / took, moved / took)
            rows.add(*row, least / took if least else "")
        times = ", ".join(f"{label} {1e3 * t:.2f} ms ({best[BASE] / t:.1f}x)" for label, t in best.items())
        print(f"{shape:9s} B={batch:<2d} {dtype} {name:16s} {times}", flush=True)


def seconds(work, argument, device: torch.device) -> list[float]:
    """Times of work(argument)."""
    if device.type == "cuda":
        return gpu_time.times(lambda: work(argument), device, 20)
    out = []
    for _ in range(3):
        began = time.process_time()
        work(argument)
        out.append(time.process_time() - began)
    return out


def means(rows: list[dict]) -> None:
    """Geometric means of the ratios over the batch sizes."""
    ratios = {}
    for row in rows:
        if row["implementation"] != BASE:
            key = row["shape"], row["dtype"], row["pass"], row["implementation"]
            ratios.setdefault(key, []).append(row["ratio"])
    print(f"\ngeometric mean over the batch sizes, times faster than {BASE}:")
    for key, of_batches in ratios.items():
        mean = math.exp(sum(map(math.log, of_batches)) / len(of_batches))
        print(f"  {' '.join(key):45s} {mean:6.1f}x")
    if any(row["of_floor"] for row in rows):
        rate = max(row["bytes_per_s"] / row["of_floor"] for row in rows if row["of_floor"])
        print(
            f"fraction of the floor: each tensor moved once at the {rate / 1e12:.2f} TB/s of a copy within the device"
        )
        for row in rows:
            if row["of_floor"]:
                label = f"{row['shape']} {row['dtype']} {row['pass']} {row['implementation']}"
                print(f"  {label:45s} {row['of_floor']:.2f}  {row['bytes_per_s'] / 1e12:.2f} TB/s")


def plot(rows: list[dict], stem: Path, machine: str) -> None:
    """Bars of the rows' ratios to BASE as stem.png and .pdf, and the rows again as stem.csv."""
    import pandas as pd
    import seaborn as sns
    from matplotlib.patches import Patch

    from benchmark.report.figures.style import COLOURS, drawing, legend, legend_height, save

    frame = pd.DataFrame(rows)
    frame = frame[frame["implementation"] != BASE]
    case = frame["shape"] + " B=" + frame["batch"].astype(str) + " " + frame["dtype"] + "\n" + frame["pass"]
    colours = dict(zip(frame["implementation"].unique(), COLOURS))
    with drawing(0.9 + 0.16 * len(frame) + legend_height(list(colours), 4.5), 4.5) as figure:
        axes = figure.subplots()
        look = {"palette": colours, "saturation": 1, "errorbar": None, "legend": False}
        sns.barplot(x=frame["ratio"], y=case, hue=frame["implementation"], orient="h", ax=axes, **look)
        for bars in axes.containers:
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=6)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set(xscale="log", xlim=(min(0.8, 0.8 * frame["ratio"].min()), 1.5 * frame["ratio"].max()))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(ylabel="", xlabel=f"times faster than the {BASE} formulation", title=machine)
        legend(figure, {name: Patch(color=colour) for name, colour in colours.items()})
    save(figure, stem, rows)
    print(f"wrote {stem}.csv, .png, .pdf")


if __name__ == "__main__":
    main()

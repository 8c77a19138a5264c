"""The kernels' source text and machine code."""

from functools import cache
from pathlib import Path

from benchmark.ops.cuda import nvrtc
from benchmark.ops.cuda.layout import Layout
from benchmark.ops.kernel_cache import cached

FAMILIES = {
    "forward": ("forward_global", "forward_tile"),
    "points": ("points_global", "points_global_scatter", "points_tile"),
    "values": ("values_direct", "values_staged", "values_and_points", "combine_splits"),
    "gather": ("sort_corners", "gather_values"),
}


@cache
def _text(name: str) -> str:
    return f'#line 1 "{name}"\n{(Path(__file__).parent / name).read_text(encoding="utf-8")}\n'


def shared_source() -> str:
    """What every kernel file is compiled behind."""
    return _text("types.cu") + _text("samples.cu")


def own_source(family: str) -> str:
    """The kernels of `family` alone."""
    return _text(f"{family}.cu")


def options(layout: Layout, architecture: int) -> list[str]:
    definitions = [f"-D{name}={number}" for name, number in layout.definitions.items()]
    return [f"--gpu-architecture=sm_{architecture}", *definitions]


def cubin(family: str, layout: Layout, architecture: int) -> bytes:
    """Machine code for sm_`architecture`, compiled at most once per machine (see kernel_cache)."""
    text, chosen = shared_source() + own_source(family), options(layout, architecture)
    key = "\n".join([text, " ".join([*chosen, *nvrtc.ALWAYS]), f"NVRTC {nvrtc.version()}"])
    path = cached(f"{family}.cubin", key, lambda: nvrtc.compile_source(text, f"{family}.cu", chosen)[0])
    return path.read_bytes()

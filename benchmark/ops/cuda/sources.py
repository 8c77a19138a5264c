"""The kernels' source text and machine code."""

from functools import cache
from pathlib import Path

from benchmark.ops.cuda import nvrtc
from benchmark.ops.cuda.layout import Layout
from benchmark.ops.kernel_cache import cached

FAMILIES = {
    "forward": ("forward_global", "forward_tile"),
    "points": ("points_global", "points_global_scatter", "points_tile"),
    "values": ("values_direct", "values_staged", "combine_splits"),
}


@cache
def source(family: str) -> str:
    """Text of `family`.cu behind the parts that all share."""
    folder = Path(__file__).parent
    parts = [(name, (folder / name).read_text()) for name in ("types.cu", "samples.cu", f"{family}.cu")]
    return "".join(f'#line 1 "{name}"\n{text}\n' for name, text in parts)


def options(layout: Layout, architecture: int) -> list[str]:
    definitions = [f"-D{name}={number}" for name, number in layout.definitions.items()]
    return [f"--gpu-architecture=sm_{architecture}", *definitions]


def cubin(family: str, layout: Layout, architecture: int) -> bytes:
    """Machine code for sm_`architecture`, compiled at most once per machine (see kernel_cache)."""
    text, chosen = source(family), options(layout, architecture)
    key = "\n".join([text, " ".join(chosen), f"NVRTC {nvrtc.version()}"])
    path = cached(f"{family}.cubin", key, lambda: nvrtc.compile_source(text, f"{family}.cu", chosen)[0])
    return path.read_bytes()

"""The training step: images per second, memory and share of the machine's matrix rate, and what each lever is worth.

    python perf/train_step.py                           # all parts; on a CPU at scale small, a few steps
    python perf/train_step.py --parts goal split        # on a GPU at scale paper, 100 steps after 10

A number is from the harness's own `training.loop.train_epoch` over its own loader, on drawn images, with random encoder
weights; what `step_variants.py` changes about it is named. Ratios are to "as the harness trains" within a part.

Parts, most valuable first: goal (the fastest, the default, as the published code trains); split (one PanNuke split of
100 epochs from the fastest step and a whole validation pass); validation (that pass by compiled blocks); methods;
loader (training images per second without a network); levers (each alone); graph (the whole step as a CUDA graph);
curve (bf16 beside fp32 and another seed).

Each row is written to <out>/train_step.csv as it is measured; after --limit seconds no other row is begun. The note of
a row that failed, or whose network was not compiled or graphed as it says, begins with "failed"; then it exits with 1.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from arguments import positive

PARTS = ("goal", "split", "validation", "methods", "loader", "levers", "graph", "curve")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scale", choices=("debug", "small", "paper"), help="default: paper on a GPU, small on a CPU")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all; on a CPU goal, loader and levers")
    parser.add_argument("--steps", type=positive, help="timed; default 100 on a GPU, 3 on a CPU")
    parser.add_argument("--threads", type=positive, default=1, help="of the CPU (default 1)")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which no row is begun (default 600)")
    parser.add_argument("--out", type=Path, default=Path("reports/speed"))
    chosen = parser.parse_args()
    # not above: the processes that decode begin with this file, and would begin with torch
    from step_parts import measure

    return measure(chosen)


if __name__ == "__main__":
    sys.exit(main())

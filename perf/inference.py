"""Inference and evaluation (forward, decode, match, overlapped) beside the forward pass alone, on realistic maps.

    python perf/inference.py                    # on a CPU at scale small; on a GPU at paper, 2048 images

The network runs on drawn images; then the ideal maps of their nuclei, with fixed noise, take the place of its outputs,
so that decoding has what a trained network gives it. The nuclei are thinned to PanNuke's density. Copies to and from
the device, decoding, matching and the records are inside the timing: it is the harness's `evaluation.test_set`. Writes
<out>/inference.csv.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from arguments import positive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scale", choices=("debug", "small", "paper"), help="default: paper on a GPU, small on a CPU")
    parser.add_argument("--images", type=positive, help="default: 2048 on a GPU, 32 on a CPU")
    parser.add_argument("--distinct", type=positive, help="drawn, then repeated; default 64 on a GPU, 16 on a CPU")
    parser.add_argument("--threads", type=positive, default=1, help="of the CPU (default 1)")
    parser.add_argument("--out", type=Path, default=Path("reports/speed"))
    chosen = parser.parse_args()
    # not above: the processes that decode begin with this file, and would begin with torch
    from realistic import measure

    measure(chosen)


if __name__ == "__main__":
    main()

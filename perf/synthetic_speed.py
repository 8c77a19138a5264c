"""Speed of drawing synthetic patches on one core.

python perf/synthetic_speed.py --patches 200
"""

import argparse
import time

from benchmark.data.sources.synthetic import TISSUES, draw


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Time the synthetic generator on one core.",
        epilog="example: python perf/synthetic_speed.py --patches 200",
    )
    parser.add_argument("--patches", type=int, default=200, help="number of patches (default 200)")
    parser.add_argument("--size", type=int, default=256, help="side in px (default 256)")
    chosen = parser.parse_args()
    wall, core = time.perf_counter(), time.process_time()
    nuclei = 0
    for k in range(chosen.patches):
        nuclei += len(draw(TISSUES[k % len(TISSUES)], k // 4, k % 4, size=chosen.size).nuclei)
    wall, core = time.perf_counter() - wall, time.process_time() - core
    print(f"{chosen.patches} patches of {chosen.size} px with {nuclei} nuclei")
    print(f"{core:.1f} s of one core ({1000 * core / chosen.patches:.0f} ms each), {wall:.1f} s by the clock")


if __name__ == "__main__":
    main()

"""What a training costs on a machine that others use too, by how the threads of OpenMP wait for each other.

    python perf/busy.py                          # 5 repetitions, about 6 minutes on 2 cores
    python perf/busy.py --repeat 1 --seconds 2   # a look

A row is a setting of the environment, a column who else is there: nobody, one or two processes that only count, or two
trainings of the same setting. A figure is the median over the repetitions, which take all settings in turn, of seconds
per update of CellVTA@small, forward, loss and backward, on all cores; with three trainings the mean of the three. Fair
is what a process would need that has its share of the cores and wastes nothing: the best time alone, times the
processes that share.

All trainings stay in memory between their turns: 1.6 GB each, three for each setting.
"""

import argparse
import contextlib
import csv
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

METHOD, BATCH, SIDE = "cellvta@small", 8, 128
SETTINGS = {
    "default of OpenMP": {},
    "ours": None,  # what `benchmark.runtime.threads` sets
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
# who else is there -> (trainings, processes that count)
SCENES = {"alone": (1, 0), "1 other busy process": (1, 1), "2 others": (1, 2), "three trainings": (3, 0)}
OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
COUNT = "import os; first = os.getppid()\nwhile os.getppid() == first: pass"  # ends with the process that started it


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default 4)")
    parser.add_argument("--spin", type=int, nargs="*", default=[], help="further values of GOMP_SPINCOUNT")
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="these settings")
    parser.add_argument("--beside", nargs="+", choices=SCENES, default=list(SCENES), help="these neighbours")
    parser.add_argument("--out", type=Path, default=Path("reports/speed"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        return work()
    settings = {name: SETTINGS[name] for name in chosen.only} | {
        f"GOMP_SPINCOUNT={n}": {"GOMP_SPINCOUNT": str(n)} for n in chosen.spin
    }
    took: dict[tuple[str, str], list[float]] = {}
    with contextlib.ExitStack() as stack:
        trainings = {
            name: [stack.enter_context(training(values)) for _ in range(3)] for name, values in settings.items()
        }
        for n in range(chosen.repeat):
            for scene in chosen.beside:
                ours, others = SCENES[scene]
                for name in settings:
                    seconds = measure(trainings[name][:ours], others, chosen.seconds)
                    took.setdefault((name, scene), []).append(seconds)
                    print(f"{n + 1}/{chosen.repeat} {name}, {scene}: {seconds:.3f} s", file=sys.stderr, flush=True)
    report(list(settings), chosen.beside, took, chosen.out)
    return 0


@contextlib.contextmanager
def training(values: dict[str, str] | None):
    """A process that is ready to train under a setting; it waits on its standard input between measurements."""
    environment = {name: value for name, value in os.environ.items() if name not in (*OURS, "OMP_NUM_THREADS")}
    environment |= {"BUSY_OURS": "1"} if values is None else values
    line = [sys.executable, __file__, "--worker"]
    process = subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if not process.stdout or process.stdout.readline() != "ready\n":  # one after the other: they would spin
            raise SystemExit("a training did not start")
        yield process
    finally:
        process.kill()
        process.wait()


def measure(trainings: list, others: int, seconds: float) -> float:
    """Mean seconds per update of trainings that run at once, beside processes that count."""
    busy = [subprocess.Popen([sys.executable, "-c", COUNT]) for _ in range(others)]
    try:
        time.sleep(0.3)
        for one in trainings:
            one.stdin.write(f"{seconds}\n")
            one.stdin.flush()
        return statistics.fmean(float(one.stdout.readline()) for one in trainings)
    finally:
        for one in busy:
            one.kill()
            one.wait()


def work() -> int:
    """Train for as many seconds as each line of the standard input says; print seconds per update."""
    if os.environ.get("BUSY_OURS"):
        from benchmark.runtime import threads

        assert "torch" not in sys.modules, "its runtime has read the environment already"
        threads.wait_gently()
    import torch

    from benchmark.methods import registry
    from benchmark.runtime import memory

    memory.keep_freed()
    torch.manual_seed(0)
    method = registry.build(registry.parse(METHOD), 5, 3).train()
    nuclei = _nuclei()
    maps = method.representation.targets(nuclei)
    targets = {name: torch.from_numpy(value).expand(BATCH, *value.shape) for name, value in maps.items()}
    batch = targets | {
        "image": torch.rand(BATCH, 3, SIDE, SIDE),
        "typed": torch.ones(BATCH, dtype=torch.bool),
        "tissue": torch.zeros(BATCH, dtype=torch.long),
    }

    def update() -> None:
        sum(method.loss(method(batch["image"]), batch).values()).backward()

    for _ in range(3):
        update()
    print("ready", flush=True)
    for line in sys.stdin:
        began, updates = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < float(line) or not updates:
            update()
            updates += 1
        print((time.perf_counter() - began if not spent else spent) / updates, flush=True)
    return 0


def _nuclei():
    """A grid of square nuclei of five types."""
    import numpy as np

    from benchmark.data.nuclei import Nuclei

    labels = np.zeros((SIDE, SIDE), np.int32)
    for n, (row, column) in enumerate((r, c) for r in range(4, SIDE - 12, 20) for c in range(4, SIDE - 12, 20)):
        labels[row : row + 10, column : column + 10] = n + 1
    return Nuclei.from_labels(labels, np.where(labels > 0, labels % 5 + 1, 0), 0.25)


def report(settings: list[str], scenes: list[str], took: dict[tuple[str, str], list[float]], out: Path) -> None:
    """Print the table and write its csv."""
    import torch
    from bench_ops import hardware

    first = "alone" if "alone" in scenes else scenes[0]
    best = min(statistics.median(took[name, first]) for name in settings)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fair = {}
    for scene in scenes:
        ours, others = SCENES[scene]
        fair[scene] = best * (ours if ours > 1 else (cores + others) / cores)
    print(f"{hardware(torch.device('cpu'))}; torch {torch.__version__}; {METHOD}, batch {BATCH}; seconds per update")
    print(f"{'':28s}" + "".join(f"{scene:>24s}" for scene in scenes))
    rows = []
    for name in settings:
        values = {scene: statistics.median(took[name, scene]) for scene in scenes}
        print(f"{name:28s}" + "".join(f"{v:14.3f} ({v / fair[s]:5.2f} ×)" for s, v in values.items()))
        for scene, value in values.items():
            lowest, highest = min(took[name, scene]), max(took[name, scene])
            rows.append([name, scene, value, lowest, highest, len(took[name, scene]), fair[scene]])
    print(f"{'fair':28s}" + "".join(f"{value:14.3f}          " for value in fair.values()))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "busy.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["setting", "beside", "seconds", "min", "max", "repetitions", "fair"])
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())

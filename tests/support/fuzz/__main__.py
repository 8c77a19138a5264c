"""`python -m tests.support.fuzz [--count N] [--seed S] [--only K]`: damaged inputs through every reader and command.

An input that is accepted has a right result when that is the one of the undamaged file, or the one of a file that
another reader read from the damaged bytes and wrote anew (`again`); of a run's files, whose hashes are listed, only the
former, or the run is left out and named. Values that no other reader can tell are counted as unchecked.

Prints the figures by format. Exit code 1 when an input had a wrong result, ended in a traceback, took longer than LIMIT
seconds or more than MEMORY bytes without a sentence about it, or was refused in something else than one sentence. A
crash of the interpreter ends this process: `last.txt` in the folder names the input.
"""

import argparse
import collections
import os
import random
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.cli import main
from tests.support.ending import ending, heed_alarms
from tests.support.fuzz import subjects, values, words

LIMIT = 10  # seconds for one input
MEMORY = 2 << 30  # bytes beyond what the process has when the first input is read
OUTCOMES = ("refusals", "right", "wrong", "unchecked", "tracebacks", "hangs", "other")
GOOD = ("refusals", "right", "unchecked")


def trial(k: int, seed: int, whole: list[tuple[subjects.Subject, str]], root: Path) -> tuple[str, str, str, str]:
    """(format, what was damaged and how, one of OUTCOMES, text) of input k. whole: the inputs with their results."""
    rng = random.Random(f"{seed} {k}")
    if k % (len(whole) + 6) >= len(whole):
        line = words.words(rng, root)
        end = ending(lambda: main(line), LIMIT)
        return "command line", f"{line!r:.300}", "right" if end.kind == "results" else end.kind, end.err
    subject, right = whole[k % (len(whole) + 6)]
    content, way = subject.path.read_bytes(), rng.choice(subject.ways)
    damaged = way(content, rng)
    try:
        subject.path.write_bytes(damaged)
        end = ending(subject.read, LIMIT)
        reached, why = values.judged(subject, damaged, end, right) if end.kind == "results" else (end.kind, "")
        return subject.format, f"{subject.path.name} {way.__qualname__}", reached, f"{why}\n{end.err}".strip()
    finally:
        subject.path.write_bytes(content)


def bounded() -> None:
    """A bound on this process's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:  # elsewhere the bound does not hold
        bound = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def run(count: int, seed: int, only: int | None, root: Path) -> int:
    """Read the inputs; returns the exit code."""
    heed_alarms()
    whole = []
    others = root / "words"
    others.mkdir()
    np.save(others / "a.npy", np.eye(20, dtype=np.int32))
    Image.new("RGB", (40, 40), "white").save(others / "a.png")
    os.chdir(others)  # where words that are paths may write
    faults = []
    for subject in subjects.of_files(root):
        end = ending(subject.read, LIMIT)
        whole.append((subject, values.result(subject, end)))
        known = subject.path.name in ("published.pth", "cells.json")  # refused whole by what reads them here
        if end.kind != "results" and not known:
            faults.append(f"whole {subject.path}: {end.kind}: {end.err[-1500:]}")
    bounded()
    table = collections.defaultdict(collections.Counter)
    for k in range(count) if only is None else [only]:
        (root / "last.txt").write_text(f"input {k} of seed {seed}")
        kind, what, reached, text = trial(k, seed, whole, others)
        table[kind][reached] += 1
        if reached not in GOOD:
            faults.append(f"input {k}: {kind}, {what}: {reached}\n{text[-3000:]}")
        elif only is not None:
            print(kind, what, reached, text)
    print(f"{'format':14}{'inputs':>8}" + "".join(f"{name:>12}" for name in OUTCOMES))
    total = sum(table.values(), collections.Counter())
    for kind, counts in [*sorted(table.items()), ("all", total)]:
        print(f"{kind:14}{counts.total():8}" + "".join(f"{counts[name]:12}" for name in OUTCOMES))
    print("\n".join(faults))
    return int(bool(faults))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this input alone")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(chosen.count, chosen.seed, chosen.only, Path(folder)))

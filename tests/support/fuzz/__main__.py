"""`python -m tests.support.fuzz [--count N] [--seed S] [--only K]`: damaged inputs through every reader and command.

Prints the figures by format. Exit code 1 when an input ended in a traceback, took longer than LIMIT seconds or more
than MEMORY bytes without a sentence about it, or was refused in something else than one sentence. A crash of the
interpreter ends this process: `last.txt` in the folder names the input.
"""

import argparse
import collections
import contextlib
import faulthandler
import io
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.cli import main
from benchmark.runtime.errors import InputError
from tests.support.fuzz import subjects, words

LIMIT = 10  # seconds for one input
MEMORY = 2 << 30  # bytes beyond what the process has when the first input is read
OUTCOMES = ("refusals", "results", "tracebacks", "hangs", "other")


class Hang(BaseException):
    """An input took longer than LIMIT."""


def outcome(read) -> tuple[str, str]:
    """(one of OUTCOMES, what was printed or raised) of a call."""
    out, err = io.StringIO(), io.StringIO()
    signal.alarm(LIMIT)
    faulthandler.dump_traceback_later(3 * LIMIT, exit=True, file=sys.__stderr__)  # for a hang outside Python
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = read()
            except SystemExit as error:
                code = error.code
            except InputError as error:
                code = 2
                print(f"error: {error}", file=sys.stderr)
    except Hang:
        return "hangs", traceback.format_exc()
    except BaseException:
        return "tracebacks", traceback.format_exc()
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
    text = err.getvalue()
    if "Traceback" in text:
        return "tracebacks", text
    if type(code) is not int or code == 0:
        return "results", text
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if code == 2 and len(errors) == 1 and text.endswith(f"{errors[0]}\n"):
        return "refusals", errors[0]
    return "other", f"exit code {code!r}: {text[-2000:]}"


def trial(k: int, seed: int, whole: list[subjects.Subject], root: Path) -> tuple[str, str, str, str]:
    """(format, what was damaged and how, outcome, text) of input k."""
    rng = random.Random(f"{seed} {k}")
    if k % (len(whole) + 6) >= len(whole):
        line = words.words(rng, root)
        return "command line", f"{line!r:.300}", *outcome(lambda: main(line))
    subject = whole[k % (len(whole) + 6)]
    content, way = subject.path.read_bytes(), rng.choice(subject.ways)
    damaged = way(content, rng)
    try:
        subject.path.write_bytes(damaged)
        return subject.format, f"{subject.path.name} {way.__qualname__}", *outcome(subject.read)
    finally:
        subject.path.write_bytes(content)


def bounded() -> None:
    """A bound on this process's memory, and an alarm that raises Hang."""

    def alarm(number, frame):
        raise Hang

    signal.signal(signal.SIGALRM, alarm)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:  # elsewhere the bound does not hold
        bound = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def run(count: int, seed: int, only: int | None, root: Path) -> int:
    """Read the inputs; returns the exit code."""
    whole = subjects.of_files(root)
    others = root / "words"
    others.mkdir()
    np.save(others / "a.npy", np.eye(20, dtype=np.int32))
    Image.new("RGB", (40, 40), "white").save(others / "a.png")
    os.chdir(others)  # where words that are paths may write
    faults = []
    for subject in whole:
        reached, text = outcome(subject.read)
        known = subject.path.name in ("published.pth", "cells.json")  # refused whole by what reads them here
        if reached != "results" and not known:
            faults.append(f"whole {subject.path}: {reached}: {text[-1500:]}")
    bounded()
    table = collections.defaultdict(collections.Counter)
    for k in range(count) if only is None else [only]:
        (root / "last.txt").write_text(f"input {k} of seed {seed}")
        kind, what, reached, text = trial(k, seed, whole, others)
        table[kind][reached] += 1
        if reached not in ("refusals", "results"):
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

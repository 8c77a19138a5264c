"""Progress of a long job on stderr: in place on a terminal, else a line every ten seconds."""

import os
import sys
import time

# Set for a process whose lines another one shows: each line of progress begins with a carriage return, as one that its
# next line replaces, and there is one a second.
MARKED = "BENCHMARK_MARKED_PROGRESS"


class Progress:
    """Prints done, total, speed and an estimate. The first call says where the job starts.

    Args:
        what: the job, such as "synthetic fold 1: prepared".
        unit: what is counted.
        show: False prints nothing.
        end: print the last line also when the job took less than ten seconds.
    """

    def __init__(self, what: str, unit: str, show: bool = True, end: bool = True):
        self.what, self.unit, self.show, self.end = what, unit, show, end
        self.begun = self.printed = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` are done; `note` is put behind the count."""
        now = time.monotonic()
        if self.first is None:
            self.first = done
            if self.show and done:
                print(f"{self.what}: going on after {done} of {total} {self.unit}", file=sys.stderr)
            return
        terminal, marked = sys.stderr.isatty(), MARKED in os.environ
        last = done >= total and (self.end or self.printed > self.begun)
        if not self.show or not (last or now - self.printed >= (0.2 if terminal else 1 if marked else 10)):
            return
        self.printed = now
        speed = (done - self.first) / max(now - self.begun, 1e-6)
        left = (total - done) / max(speed, 1e-9)
        line = f"{self.what} {done}/{total} {self.unit}{note}, {speed:.3g} {self.unit}/s, {left:.0f} s left"
        text = f"\r{line:<80}" if terminal else f"\r{line}" if marked else line
        print(text, end="" if terminal and done < total else "\n", file=sys.stderr, flush=True)

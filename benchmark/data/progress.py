"""Progress of a long job on stderr."""

import sys
import time


class Progress:
    """Prints images done, speed and an estimate; in place on a terminal, else every ten seconds."""

    def __init__(self, what: str, show: bool):
        self.what, self.show = what, show
        self.begun = self.printed = time.monotonic()
        self.first = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = done
            if self.show and done:
                print(f"{self.what}: going on after {done} of {total} images", file=sys.stderr)
            return
        terminal = sys.stderr.isatty()
        if not self.show or (done < total and now - self.printed < (0.2 if terminal else 10)):
            return
        self.printed = now
        speed = (done - self.first) / max(now - self.begun, 1e-6)
        left = (total - done) / speed
        line = f"{self.what}: prepared {done}/{total} images, {speed:.0f} images/s, {left:.0f} s left"
        end = "" if terminal and done < total else "\n"
        print(f"\r{line:<80}" if terminal else line, end=end, file=sys.stderr)

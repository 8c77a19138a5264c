"""Counts of what a rule decides or leaves out, said once when a data set has been read."""

import sys
from collections import Counter


class Tally:
    """Counts by sentence, a line each on stderr at the end.

    A context manager; it says nothing when an error ends the work.

    Args:
        of: whose counts these are, the beginning of each line.
    """

    def __init__(self, of: str):
        self._of = of
        self._counts: Counter[str] = Counter()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind in (None, GeneratorExit):  # a generator that is not asked for more ends with the latter
            for what, n in self._counts.items():
                print(f"{self._of}: {n} {what}", file=sys.stderr)

    def add(self, what: str, n: int = 1) -> None:
        """Count n more; `what`: the words that follow the number."""
        if n:
            self._counts[what] += n

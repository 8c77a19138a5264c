"""Mean and spread over runs, with the number of missing values."""

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) of the `n` values present, of `expected` ones.

    Attributes:
        mean: NaN when n is 0.
        sd: NaN when n is below 2.
    """

    mean: float
    sd: float
    n: int
    expected: int

    @property
    def complete(self) -> bool:
        """Whether every expected value is present."""
        return self.n >= self.expected

    def text(self, digits: int = 3, scale: float = 1.0, unit: str = "") -> str:
        """Such as "0.512 ± 0.010 (2/3)"; "–" without a value; no ± for one value, no (n/m) when complete."""
        if self.n == 0:
            return "–"
        out = f"{self.mean * scale:.{digits}f}"
        if self.n > 1:
            out += f" ± {self.sd * scale:.{digits}f}"
        out += f" {unit}" if unit else ""
        return out if self.complete else f"{out} ({self.n}/{self.expected})"


def summarise(values, expected: int) -> Summary:
    """Summary of numbers; all else (None, text, NaN, infinities) counts as missing."""
    present = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    mean = statistics.fmean(present) if present else math.nan
    sd = statistics.stdev(present) if len(present) > 1 else math.nan
    return Summary(mean, sd, len(present), expected)

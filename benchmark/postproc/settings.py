"""What the settings of all decodings can do: be replaced by name, and refuse wrong values in one sentence."""

from dataclasses import dataclass, fields, replace
from typing import Self


@dataclass(frozen=True)
class Settings:
    """Base class of frozen dataclasses of numbers."""

    def updated(self, params: dict | None) -> Self:
        """These settings with `params` (field name -> value) applied. ValueError for an unknown name."""
        params = params or {}
        known = [f.name for f in fields(self)]
        for name in params:
            if name not in known:
                raise ValueError(f"unknown post-processing setting '{name}'; known are {', '.join(known)}")
        return replace(self, **params)

    def check_share(self, *names: str) -> None:
        """ValueError for a field that is no number in 0..1."""
        for name in names:
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise ValueError(f"{name} is {value!r}, expected a number in 0..1")

    def check_count(self, *names: str, unit: str = "pixels") -> None:
        """ValueError for a field that is no whole number >= 0."""
        for name in names:
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(f"{name} is {value!r}, expected a number of {unit} >= 0")

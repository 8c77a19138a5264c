"""Evaluation protocols by name; each is arithmetic on the same records.

A protocol is registered by its file in this folder (see `base.register`).
"""

import difflib
import importlib
import pkgutil

from .base import PROTOCOLS, Protocol

__all__ = ["PROTOCOLS", "Protocol", "choose"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def choose(name: str, single: bool = False) -> list[str]:
    """Names of the protocols that `name` asks for, in the order of PROTOCOLS: itself, or for "all" every one.

    Args:
        single: whether only one protocol may be asked for, so that "all" is refused.

    Raises:
        ValueError: unknown name; names those that are known and the one that was probably meant.
    """
    if name in PROTOCOLS:
        return [name]
    if name == "all" and not single:
        return list(PROTOCOLS)
    close = difflib.get_close_matches(name, PROTOCOLS, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    known = ", ".join(PROTOCOLS) + ("" if single else " and all")
    raise ValueError(f"unknown protocol '{name}'; known are {known}.{hint}")

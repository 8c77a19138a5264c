"""Published evaluation protocols by name; each is arithmetic on the same records."""

from .base import Protocol
from .cellvit import CellViT
from .pannuke import PanNuke

PROTOCOLS: dict[str, Protocol] = {p.name: p for p in (PanNuke(), CellViT())}

__all__ = ["PROTOCOLS", "Protocol"]

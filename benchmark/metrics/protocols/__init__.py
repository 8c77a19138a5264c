"""Evaluation protocols by name; each is arithmetic on the same records."""

from .base import Protocol
from .cellvit import CellViT, CellVTAConic
from .clean import Clean
from .conic import CoNIC
from .hovernet import HoVerNet
from .pannuke import PanNuke

PROTOCOLS: dict[str, Protocol] = {
    p.name: p for p in (PanNuke(), CellViT(), CellVTAConic(), CoNIC(), HoVerNet(), Clean())
}

__all__ = ["PROTOCOLS", "Protocol"]

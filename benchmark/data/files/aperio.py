"""Outlines in the XML of Aperio ImageScope, as MoNuSeg and MoNuSAC have them.

    <Annotations><Annotation>
      <Attributes><Attribute Name="Epithelial" …/></Attributes>          (MoNuSAC: the type of all regions of it)
      <Regions><Region><Vertices><Vertex X="519" Y="7.5"/>…

Nothing is fetched or expanded: a document type, by which XML defines entities, is refused.
"""

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.files import archive
from benchmark.data.files.archive import Member
from benchmark.runtime.errors import InputError

MOST = 1 << 28  # bytes of a file; real ones have a few MB


@dataclass(frozen=True)
class Outline:
    """One region. ring: float64 (K, 2), x, y in px of the image. kind: name of its annotation, "" for none."""

    ring: np.ndarray
    kind: str


class Plain(ET.TreeBuilder):
    """Elements as they are; a document type, by which XML defines entities, is refused with ValueError."""

    def doctype(self, name, public, system):
        raise ValueError("it defines a document type, which is not read")


def read(path: Path) -> list[Outline]:
    """The regions of a file in its order.

    Raises:
        InputError: unreadable, no such XML, or a vertex without coordinates.
    """
    content = Member(path, "", (path.name,)).read(MOST)
    with archive.reading(path):
        parser = ET.XMLParser(target=Plain())
        parser.feed(content)
        root = parser.close()
    if root.tag != "Annotations":
        raise InputError(f"{path}: expected XML of Aperio ImageScope (Annotations), found {root.tag:.40}; see to it.")
    return [
        Outline(_ring(region, f"{path} region {number}"), _kind(annotation))
        for annotation in root.iter("Annotation")
        for number, region in enumerate(annotation.iter("Region"), 1)
    ]


def _kind(annotation: ET.Element) -> str:
    """The name of its first attribute, else its own; "" for none."""
    named = [attribute.get("Name", "") for attribute in annotation.findall("Attributes/Attribute")]
    return next((name.strip() for name in [*named, annotation.get("Name", "")] if name.strip()), "")


def _ring(region: ET.Element, where: str) -> np.ndarray:
    points = []
    for vertex in region.iter("Vertex"):
        words = vertex.get("X"), vertex.get("Y")
        try:
            point = [float(word) for word in words if word is not None]
        except ValueError:
            point = []
        if len(point) < 2 or not all(math.isfinite(value) and abs(value) < 2**31 for value in point):
            raise InputError(
                f"{where}: expected vertices with X and Y in pixels, found X={words[0]!r} Y={words[1]!r}; correct it."
            )
        points.append(point)
    return np.array(points, np.float64).reshape(-1, 2)

"""Files of outlines: HoVer-Net's JSON, GeoJSON of QuPath and CellViT, StarDist's polygons. They need the image's shape.

Where outlines overlap, the later one takes the pixels (StarDist: the more probable one).
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.data.files import archive, text
from benchmark.formats.labelled import Labelled, from_table
from benchmark.formats.polygons import paint
from benchmark.runtime.errors import InputError

DETECTED = ("detection", "cell")  # QuPath's kinds of object; all other kinds are no nuclei where these exist
Outline = tuple[list[np.ndarray], object, str]  # rings (K, 2) x, y; name or id of the type, None for none; vertices


def read_json(path: Path, shape: tuple[int, int], names, vertices: str | None) -> Labelled:
    """HoVer-Net's JSON (`nuc`: id -> contour, type) or GeoJSON, distinguished by their content.

    Args:
        vertices: a word of polygons.VERTICES; None: centres for HoVer-Net and for annotations that hold one polygon per
            nucleus (CellViT), corners for all else (QuPath).

    Raises:
        InputError: unreadable, neither of the two, or an outline that is none.
    """
    try:
        content = json.loads(text.read(path), object_pairs_hook=lambda pairs: _once(pairs, path))
    except (ValueError, RecursionError) as error:
        raise archive.unreadable(path, error) from error
    if _is_coco(content):
        raise InputError(f"{path}: COCO's annotations are not read; paint them into label maps, one per image.")
    if isinstance(content, dict) and isinstance(content.get("nuc"), dict):
        outlines = list(_hovernet(content["nuc"], path))
    else:
        outlines = list(_geojson(content, path))
    return painted(outlines, shape, names, str(path), vertices)


def painted(outlines: list[Outline], shape: tuple[int, int], names, where: str, vertices: str | None) -> Labelled:
    """Paint outlines as ids 1, 2, … in their order; those without a pixel in the image are counted on stderr."""
    labels = np.zeros(shape, np.int64)
    empty = 0
    for k, (rings, _, usual) in enumerate(outlines, 1):
        empty += paint(labels, rings, k, vertices or usual) == 0
    if empty:
        print(f"{where}: {empty} of {len(outlines)} outlines hold no pixel of the image {shape}", file=sys.stderr)
    types = [kind for _, kind, _ in outlines]
    if all(kind is None for kind in types):
        return from_table(labels, None, None, names, where) if types else Labelled(labels, np.zeros(0, np.uint8))
    kinds = ["" if kind is None else kind for kind in types]
    return from_table(labels, np.arange(1, len(kinds) + 1), kinds, names, where)


def stardist(
    arrays: dict[str, np.ndarray], shape: tuple[int, int], names, where: str, vertices: str | None
) -> Labelled:
    """StarDist's `details` as an npz: coord (N, 2, rays) y, x; prob (N,); optional class_id (N,).

    Raises:
        InputError: arrays of other shapes.
    """
    coord = np.asarray(arrays["coord"], np.float64)
    if coord.ndim != 3 or coord.shape[1] != 2 or not np.isfinite(coord).all():
        raise InputError(f"{where}: expected coord of shape (nuclei, 2, rays), found {coord.shape} or no numbers.")
    n = len(coord)
    prob = np.asarray(arrays.get("prob", np.zeros(n)))
    classes = arrays.get("class_id")
    for name, values in (("prob", prob), ("class_id", classes)):
        if values is not None and np.shape(values) != (n,):
            raise InputError(
                f"{where}: expected {name} with one entry for each of {n} nuclei, found {np.shape(values)}."
            )
    order = np.argsort(prob, kind="stable")
    outlines = [([coord[k, ::-1].T], None if classes is None else int(classes[k]), "inside") for k in order]
    return painted(outlines, shape, names, where, vertices)


def _hovernet(nuclei: dict, path: Path) -> Iterator[Outline]:
    for key, nucleus in nuclei.items():
        where = f"{path} nucleus {key}"
        if not isinstance(nucleus, dict) or "contour" not in nucleus:
            raise InputError(f"{where}: expected a contour, found none.")
        yield [_ring(nucleus["contour"], where)], nucleus.get("type"), "centres"


def _geojson(content, path: Path) -> Iterator[Outline]:
    features = content
    if isinstance(content, dict):
        features = content.get("features", [content] if content.get("type") == "Feature" else None)
    if not isinstance(features, list):
        raise InputError(f"{path}: expected GeoJSON features or HoVer-Net's `nuc`, found neither.")
    kinds = [_object_type(feature) for feature in features]
    detected = any(kind in DETECTED for kind in kinds)
    left_out = [kind for kind in kinds if detected and kind not in (*DETECTED, None)]
    if left_out:
        words = ", ".join(f"{left_out.count(kind)} {kind}s" for kind in dict.fromkeys(left_out))
        print(f"{path}: {words} are left out, since it holds detections", file=sys.stderr)
    for n, feature in enumerate(features):
        if detected and kinds[n] not in (*DETECTED, None):
            continue
        where = f"{path} feature {n}"
        geometry = (feature.get("nucleusGeometry") or feature.get("geometry")) if isinstance(feature, dict) else None
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        if kind not in ("Polygon", "MultiPolygon"):
            raise InputError(f"{where}: expected a Polygon or MultiPolygon, found {kind}; export outlines.")
        properties = _properties(feature)
        polygons = geometry.get("coordinates")
        polygons = [polygons] if kind == "Polygon" else polygons
        if not isinstance(polygons, list) or not all(isinstance(p, list) for p in polygons):
            raise InputError(f"{where}: expected lists of coordinates, found {type(polygons).__name__}.")
        name = _class_of(properties, where)
        pieces = [[_ring(ring, where) for ring in polygon] for polygon in polygons]
        if kind == "MultiPolygon" and (kinds[n] or "annotation") == "annotation":
            yield from (([*rings], name, "centres") for rings in pieces)  # CellViT: a feature per class
        else:
            yield [ring for rings in pieces for ring in rings], name, "corners"


def _once(pairs: list[tuple], path: Path) -> dict:
    """An object of JSON, which may name a key twice; then the last one would be taken."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"{path}: expected each name once, found '{twice}' twice in one object; correct it.")
    return content


def _is_coco(content) -> bool:
    first = content.get("annotations") if isinstance(content, dict) else content
    first = first[0] if isinstance(first, list) and first else first
    return isinstance(first, dict) and "image_id" in first


def _object_type(feature) -> str | None:
    """QuPath's kind of object: `objectType` (since 0.4), `object_type` (0.3) or a Java class as the id (0.2)."""
    properties = _properties(feature)
    kind = properties.get("objectType", properties.get("object_type"))
    java = re.fullmatch(r"Path(\w+)Object", str(feature.get("id"))) if isinstance(feature, dict) else None
    kind = java[1].lower() if kind is None and java else kind
    return None if kind is None else str(kind)


def _properties(feature) -> dict:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    return properties if isinstance(properties, dict) else {}


def _class_of(properties: dict, where: str) -> str | None:
    """Class name of a feature; several names (QuPath's derived classes) are joined as QuPath shows them."""
    name = properties.get("classification")
    if isinstance(name, dict):
        name = name.get("name", name.get("names"))
    if isinstance(name, list):
        name = ": ".join(map(str, name))
    if name is not None and not isinstance(name, str):
        raise InputError(f"{where}: expected a class name in properties.classification, found {name!r}.")
    return name


def _ring(points, where: str) -> np.ndarray:
    try:
        ring = np.asarray(points, np.float64)
        if ring.ndim == 2 and ring.shape[1] >= 2 and np.isfinite(ring).all() and np.abs(ring).max() < 2**31:
            return ring[:, :2]
        fault = f"shape {ring.shape}" if ring.ndim != 2 or ring.shape[1] < 2 else "values that are no coordinates"
    except (ValueError, TypeError) as error:
        fault = str(error)
    raise InputError(f"{where}: expected an outline as a list of x, y pairs, found {fault}.")

"""Files of outlines: contours of HoVer-Net, CellViT and TIAToolbox, GeoJSON, StarDist. They need the image's shape.

Where outlines overlap, the later one takes the pixels (StarDist: the more probable one).
"""

import contextlib
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.data.files import archive, text
from benchmark.formats import packed, regions
from benchmark.formats.labelled import Labelled, from_table
from benchmark.formats.polygons import paint
from benchmark.runtime.errors import InputError

RAYS = 4096  # of a polygon of StarDist, which has 32 unless told otherwise
DETECTED = ("detection", "cell")  # QuPath's kinds of object; all other kinds are no nuclei where these exist
Outline = tuple[list[np.ndarray], object, str]  # rings (K, 2) x, y; name or id of the type, None for none; vertices


def read_json(path: Path, shape: tuple[int, int], names, vertices: str | None) -> Labelled:
    """Contours by nucleus or GeoJSON, distinguished by their content; packed or not.

    Contours, each with a type: HoVer-Net's `nuc` (id -> nucleus), CellViT's `cells` (list of nuclei) or TIAToolbox's
    dict (id -> nucleus).

    Args:
        vertices: a word of polygons.VERTICES; None: centres for contours and for annotations that hold one polygon per
            nucleus (CellViT), corners for all else (QuPath).

    Raises:
        InputError: unreadable, neither of the two, an outline that is none, or all of them outside the image.
    """
    with archive.reading(path):
        content = text.shallow(json.loads(packed.text_of(path), object_pairs_hook=lambda pairs: _once(pairs, path)))
    if _is_coco(content):
        raise InputError(f"{path}: COCO's annotations are not read; paint them into label maps, one per image.")
    nuclei = _nuclei(content)
    if nuclei is not None:
        outlines = list(_contours(nuclei, _type_names(content, nuclei, names, path), path))
    else:
        outlines = list(_geojson(content, path))
        if not any(_object_type(feature) in DETECTED for feature in _features(content, path)):
            outlines = regions.left_out(outlines, shape, str(path))
        if vertices is None and _as_opencv(outlines):
            print(
                f"{path}: its vertices are whole numbers and its edges oblique, as in contours of OpenCV, which run "
                "through the pixels' centres; they are read as corners of pixels, which would make every nucleus too "
                "small: say --vertices centres if OpenCV made them (corners if not)",
                file=sys.stderr,
            )
    return painted(outlines, shape, names, str(path), vertices)


def painted(outlines: list[Outline], shape: tuple[int, int], names, where: str, vertices: str | None) -> Labelled:
    """Paint outlines as ids 1, 2, … in their order.

    Those without a pixel in the image, and those that later ones cover entirely, are counted on stderr.

    Raises:
        InputError: all of them lie outside the image.
    """
    labels = np.zeros(shape, np.int64)
    empty = 0
    for k, (rings, _, usual) in enumerate(outlines, 1):
        empty += paint(labels, rings, k, vertices or usual) == 0
    if empty:
        _check_offset(outlines, shape, where)
        print(f"{where}: {empty} of {len(outlines)} outlines hold no pixel of the image {shape}", file=sys.stderr)
    if covered := len(outlines) - empty - np.count_nonzero(np.unique(labels)):
        print(f"{where}: {covered} of {len(outlines)} outlines are covered entirely by later ones", file=sys.stderr)
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
        InputError: arrays of other shapes, or coordinates that are no finite numbers.
    """
    check_stardist({key: np.shape(values) for key, values in arrays.items()}, shape, where)
    coord = np.asarray(arrays["coord"], np.float64)
    if not np.isfinite(coord).all():
        raise InputError(f"{where}: expected coord of finite numbers, found others.")
    prob = np.asarray(arrays.get("prob", np.zeros(len(coord))))
    classes = arrays.get("class_id")
    order = np.argsort(prob, kind="stable")
    outlines = [([coord[k, ::-1].T], None if classes is None else int(classes[k]), "inside") for k in order]
    return painted(outlines, shape, names, where, vertices)


def check_stardist(shapes: dict[str, tuple[int, ...]], shape: tuple[int, int], where: str) -> None:
    """Raises InputError where arrays are not those of `stardist` in an image (H, W), judged by their shapes."""
    sides = shapes["coord"]
    if len(sides) != 3 or sides[1] != 2:
        raise InputError(f"{where}: expected coord of shape (nuclei, 2, rays), found {sides}.")
    n, _, rays = sides
    if n > math.prod(shape) or rays > RAYS:
        raise InputError(
            f"{where}: expected coord (nuclei, 2, rays) of an image {shape}, of at most {RAYS} rays, found {sides}."
        )
    for key in ("prob", "class_id"):
        if shapes.get(key, (n,)) != (n,):
            raise InputError(f"{where}: expected {key} with one entry for each of {n} nuclei, found {shapes[key]}.")


def _check_offset(outlines: list[Outline], shape: tuple[int, int], where: str) -> None:
    """Raises InputError where no outline reaches the image: the coordinates are those of another image."""
    boxes = [(ring.min(0), ring.max(0)) for rings, _, _ in outlines for ring in rings if len(ring)]
    if not boxes or any((high >= 0).all() and (low <= shape[::-1]).all() for low, high in boxes):
        return
    low, high = np.min([low for low, _ in boxes], 0), np.max([high for _, high in boxes], 0)
    raise InputError(
        f"{where}: all {len(outlines)} outlines lie outside the image of {shape[1]} x {shape[0]} pixels, at x "
        f"{low[0]:g}..{high[0]:g}, y {low[1]:g}..{high[1]:g}; are they coordinates of a whole slide, or of another "
        "resolution? Subtract the offset of the image's upper left corner, and scale them to its pixels."
    )


def _nuclei(content) -> dict | None:
    """Key -> nucleus with a contour, of the formats that have them; None for others."""
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("nuc"), dict):
        return content["nuc"]
    if isinstance(content.get("cells"), list):
        return dict(enumerate(content["cells"]))
    each = content.values()
    return content if each and all(isinstance(nucleus, dict) and "contour" in nucleus for nucleus in each) else None


def _type_names(content: dict, nuclei: dict, names, path: Path) -> dict:
    """Id -> name of the types, as CellViT's `type_map` gives them.

    Empty where ids are taken as they are: nobody named the classes, which is said, or the user's table lists the ids,
    or the file does not name all of them.
    """
    of = content.get("type_map")
    if not isinstance(of, dict) or not names:
        return {}
    ids = {str(nucleus.get("type")) for nucleus in nuclei.values() if isinstance(nucleus, dict)} - {"0", "None"}
    if not all(isinstance(of.get(k), str) for k in ids) or ids & names.table.keys():
        return {}
    if names.classes is None:
        if ids:
            called = ", ".join(f"{k} = {of[k]}" for k in sorted(ids))
            print(
                f"{path}: its types count by number, although it names them ({called}): nothing names the classes; "
                "--types classes.toml does",
                file=sys.stderr,
            )
        return {}
    return {k: of[k] for k in ids}


def _contours(nuclei: dict, type_names: dict, path: Path) -> Iterator[Outline]:
    for key, nucleus in nuclei.items():
        where = f"{path} nucleus {key}"
        if not isinstance(nucleus, dict) or "contour" not in nucleus:
            raise InputError(f"{where}: expected a contour, found none.")
        kind = nucleus.get("type")
        yield [_ring(nucleus["contour"], where)], type_names.get(str(kind), kind), "centres"


def _as_opencv(outlines: list[Outline]) -> bool:
    """Whether outlines that are read as corners may be contours through pixel centres.

    Outlines along the pixels' edges, as QuPath writes those of a label map, have no oblique edge.
    """
    oblique = 0
    for rings, _, vertices in outlines:
        if vertices != "corners" or any((ring != np.rint(ring)).any() for ring in rings):
            return False
        oblique += any((np.roll(ring, -1, 0) != ring).all(1).any() for ring in rings)
    return oblique > len(outlines) / 2


def _features(content, path: Path) -> list:
    features = content
    if isinstance(content, dict):
        features = content.get("features", [content] if content.get("type") == "Feature" else None)
    if not isinstance(features, list):
        raise InputError(
            f"{path}: expected GeoJSON features, HoVer-Net's `nuc`, CellViT's `cells` or TIAToolbox's contours by id, "
            "found neither."
        )
    return features


def _geojson(content, path: Path) -> Iterator[Outline]:
    features = _features(content, path)
    kinds = [_object_type(feature) for feature in features]
    detected = any(kind in DETECTED for kind in kinds)
    left_out = [kind for kind in kinds if detected and kind not in (*DETECTED, None)]
    if left_out:
        words = ", ".join(f"{left_out.count(kind)} {kind}s" for kind in dict.fromkeys(left_out))
        print(f"{path}: {words} are left out, since it holds detections", file=sys.stderr)
    bare = [k == "cell" and not feature.get("nucleusGeometry") for k, feature in zip(kinds, features)]
    if any(bare):
        print(f"{path}: {sum(bare)} cells without a nucleus (nucleusGeometry) are left out", file=sys.stderr)
    if bare and sum(bare) == len(bare) - len(left_out):
        raise InputError(
            f"{path}: expected nuclei, found {sum(bare)} cells without any (nucleusGeometry); export the nuclei, or as "
            "detections."
        )
    for n, feature in enumerate(features):
        if bare[n] or (detected and kinds[n] not in (*DETECTED, None)):
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
    if isinstance(name, str) and name.lstrip().startswith(("{", "[")):  # GeoPandas writes it as text
        with contextlib.suppress(ValueError, RecursionError):
            name = json.loads(name)
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
        if ring.ndim == 3 and ring.shape[1] == 1:  # (K, 1, 2), as OpenCV has contours
            ring = ring[:, 0]
        if ring.ndim == 2 and ring.shape[1] >= 2 and np.isfinite(ring).all() and np.abs(ring).max() < 2**31:
            return ring[:, :2]
        fault = f"shape {ring.shape}" if ring.ndim != 2 or ring.shape[1] < 2 else "values that are no coordinates"
    except (ValueError, TypeError, OverflowError) as error:
        fault = str(error)
    raise InputError(f"{where}: expected an outline as a list of x, y pairs, found {fault}.")

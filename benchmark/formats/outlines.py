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

from benchmark.data.files import checks
from benchmark.formats import json_text, own_names, regions
from benchmark.formats.labelled import Labelled
from benchmark.formats.painting import Outline, painted
from benchmark.runtime.errors import InputError

STARDIST = ("coord", "prob", "class_id")  # arrays that are read of its details
RAYS = 4096  # of a polygon of StarDist, which has 32 unless told otherwise
PER_PIXEL = 32  # rays of all polygons of StarDist: as if each pixel were a nucleus of 32
DETECTED = ("detection", "cell")  # QuPath's kinds of object; all other kinds are no nuclei where these exist


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
    content = json_text.read(path)
    if _is_coco(content):
        raise InputError(f"{path}: COCO's annotations are not read; paint them into label maps, one per image.")
    nuclei = _nuclei(content)
    if nuclei is not None:
        outlines = list(_contours(nuclei, own_names.type_names(content, nuclei, names, path), path))
    else:
        outlines = regions.left_out(list(_geojson(content, path)), shape, str(path))
        if vertices is None and _as_opencv(outlines):
            print(
                f"{path}: its vertices are whole numbers and its edges oblique, as in contours of OpenCV, which run "
                "through the pixels' centres; they are read as corners of pixels, which would make every nucleus too "
                "small: say --vertices centres if OpenCV made them (corners if not)",
                file=sys.stderr,
            )
    return painted(outlines, shape, names, str(path), vertices)


def stardist(
    arrays: dict[str, np.ndarray], shape: tuple[int, int], names, where: str, vertices: str | None
) -> Labelled:
    """StarDist's `details` as an npz: coord (N, 2, rays) y, x; prob (N,); optional class_id (N,).

    Raises:
        InputError: arrays of other shapes, or coordinates that are no finite numbers.
    """
    arrays = {key: np.asarray(values) for key, values in arrays.items()}
    check_stardist({key: (np.shape(values), values.dtype) for key, values in arrays.items()}, shape, where)
    coord = arrays["coord"].astype(np.float64)
    if not np.isfinite(coord).all() or np.abs(coord).max(initial=0) >= 2**31:
        raise InputError(f"{where}: expected coord of coordinates in pixels, found values that are none.")
    classes = checks.ids(arrays["class_id"], f"{where} class_id") if "class_id" in arrays else None
    prob = arrays.get("prob", np.zeros(len(coord)))
    if np.isnan(prob).any():
        raise InputError(f"{where}: expected prob of numbers, by which outlines are ordered, found NaN.")
    order = np.argsort(prob, kind="stable")
    outlines = [([coord[k, ::-1].T], None if classes is None else int(classes[k]), "inside") for k in order]
    return painted(outlines, shape, names, where, vertices)


def check_stardist(headers: dict[str, tuple[tuple[int, ...], np.dtype]], shape: tuple[int, int], where: str) -> None:
    """Raises InputError where arrays are not those of `stardist` in an image (H, W), judged by shapes and dtypes."""
    for key in STARDIST:
        if key in headers and headers[key][1].kind not in "uif":
            raise InputError(f"{where}: expected {key} of numbers, found dtype {headers[key][1]}; save it as numbers.")
    sides = headers["coord"][0]
    if len(sides) != 3 or sides[1] != 2:
        raise InputError(f"{where}: expected coord of shape (nuclei, 2, rays), found {sides}.")
    n, _, rays = sides
    if n > math.prod(shape) or rays > RAYS:
        raise InputError(
            f"{where}: expected coord (nuclei, 2, rays) of an image {shape}, of at most {RAYS} rays, found {sides}."
        )
    if n * rays > PER_PIXEL * math.prod(shape):
        raise InputError(
            f"{where}: expected coord of nuclei of a few pixels at least in an image {shape}, found {sides}, a ray for "
            f"each {math.prod(shape) / (n * rays):.2g} pixels; is it of this image?"
        )
    for key in ("prob", "class_id"):
        if key in headers and headers[key][0] != (n,):
            raise InputError(f"{where}: expected {key} with one entry for each of {n} nuclei, found {headers[key][0]}.")


def _nuclei(content) -> dict | None:
    """Key -> nucleus with a contour, of the formats that have them; None for others."""
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("nuc"), dict):
        return content["nuc"]
    if isinstance(content.get("cells"), list):
        return dict(enumerate(content["cells"]))
    each = content.values()
    return content if all(isinstance(nucleus, dict) and "contour" in nucleus for nucleus in each) else None


def _contours(nuclei: dict, type_names: dict[int, str], path: Path) -> Iterator[Outline]:
    _say_unread([nucleus for nucleus in nuclei.values() if isinstance(nucleus, dict)], ("type",), path)
    for key, nucleus in nuclei.items():
        where = f"{path} nucleus {key}"
        if not isinstance(nucleus, dict) or "contour" not in nucleus:
            raise InputError(f"{where}: expected a contour, found none.")
        kind = nucleus.get("type")
        yield [_ring(nucleus["contour"], where)], type_names.get(own_names.type_id(kind), kind), "centres"


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
    taken = [n for n, kind in enumerate(kinds) if not (bare[n] or (detected and kind not in (*DETECTED, None)))]
    _check_planes([_geometry(features[n]) for n in taken], path)
    _say_unread([_properties(features[n]) for n in taken], ("classification", "objectType", "object_type"), path)
    for n in taken:
        feature, where = features[n], f"{path} feature {n}"
        geometry = _geometry(feature)
        kind = geometry.get("type")
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


def _geometry(feature) -> dict:
    """Of a cell that of its nucleus; empty where there is none."""
    geometry = (feature.get("nucleusGeometry") or feature.get("geometry")) if isinstance(feature, dict) else None
    return geometry if isinstance(geometry, dict) else {}


def _check_planes(geometries: list[dict], path: Path) -> None:
    """Raises InputError where outlines lie in several planes of QuPath's z-stacks and time series."""
    planes = [geometry["plane"] for geometry in geometries if isinstance(geometry.get("plane"), dict)]
    places = sorted({(str(plane.get("z", 0)), str(plane.get("t", 0))) for plane in planes})
    if len(places) > 1:
        listed = ", ".join(f"z {z} t {t}" for z, t in places)
        raise InputError(
            f"{path}: expected the outlines of one image, found those of {len(places)} planes ({listed:.200}); export "
            "each plane to a file of its own."
        )


def _say_unread(objects: list[dict], read: tuple[str, ...], path: Path) -> None:
    """A line on stderr about keys that may hold types and are not read; `read`: those that are, the first holds types.

    QuPath's `name`, which each object may have, is counted among them where it seems to stand for a class.
    """
    keys = {key: None for one in objects for key, value in one.items() if value is not None and key not in read}
    unread = [key for key in keys if own_names.may_be_types(key)]
    if "name" in keys and not any(one.get(read[0]) for one in objects):
        values = [str(one["name"]) for one in objects if "name" in one]
        unread += ["name"] * (len(set(values)) < len(values))
    checks.say_unread(path, unread, read[0])


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
        if name and not {"name", "names"} & set(name):
            raise InputError(f"{where}: expected a name in properties.classification, found {', '.join(name):.100}.")
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

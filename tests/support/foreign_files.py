"""Three nuclei as foreign files hold them, the comparison with what is read, and the command that scores such files."""

import numpy as np

from benchmark.cli import main
from benchmark.formats.collection import collection
from benchmark.formats.type_names import TypeNames

CLASSES = ("Neoplastic", "Inflammatory", "Dead")
NAMES = TypeNames(CLASSES)
SHAPE = (40, 50)


def labels() -> tuple[np.ndarray, np.ndarray]:
    """Three separate nuclei with gaps in their ids, and their type map."""
    instances = np.zeros(SHAPE, np.int32)
    instances[3:10, 4:15], instances[20:33, 10:20], instances[5:30, 30:44] = 2, 7, 300
    types = np.zeros(SHAPE, np.uint8)
    for k, kind in ((2, 1), (7, 3), (300, 2)):
        types[instances == k] = kind
    return instances, types


def same(found, instances, types=None) -> None:
    """The same nuclei whatever their ids, each with the right type."""
    ids = np.unique(instances)[1:]
    assert len(np.unique(found.instances)) == len(ids) + 1
    assert np.array_equal(found.instances > 0, instances > 0)
    order = []
    for k in ids:
        own = np.unique(found.instances[instances == k])
        assert len(own) == 1
        order.append(own[0])
    if types is None:
        assert found.types is None
    elif found.types.ndim == 2:
        assert np.array_equal(found.types, types)
    else:
        of = dict(zip(np.unique(found.instances)[1:].tolist(), found.types.tolist()))
        assert [of[k] for k in order] == [types[instances == k][0] for k in ids]


def only(path, names=NAMES, shape=SHAPE, vertices=None):
    (image,) = collection(path, names, vertices).images
    return image.read(shape)


def corners(instances, k) -> list:
    """Outline of a box along the pixels' outer edges."""
    rows, columns = np.nonzero(instances == k)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    return [[int(x), int(y)] for x, y in ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))]


def centres(instances, k) -> list:
    """Outline of a box through the centres of its outermost pixels."""
    rows, columns = np.nonzero(instances == k)
    top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
    return [[int(x), int(y)] for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]


def feature(rings, name, kind="Polygon", what="detection") -> dict:
    properties = {"objectType": what} | ({"classification": {"name": name, "color": [1, 2, 3]}} if name else {})
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": rings}, "properties": properties}


def score(tmp_path, true, pred, *words) -> int:
    return main(["score", "--true", str(true), "--pred", str(pred), *map(str, words)])

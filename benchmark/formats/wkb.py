"""Outlines as well-known binary (OGC 06-103r4), little-endian: what GeoPandas, DuckDB and PostGIS read."""

import struct

import numpy as np

POLYGON, MULTIPOLYGON = 3, 6


def encoded(polygons: list[list]) -> bytes:
    """A Polygon, or a MultiPolygon where there are several.

    Args:
        polygons: each a list of closed rings, the outer one first; a ring: (K, 2) x, y.
    """
    parts = [_polygon(rings) for rings in polygons]
    return parts[0] if len(parts) == 1 else struct.pack("<BII", 1, MULTIPOLYGON, len(parts)) + b"".join(parts)


def _polygon(rings: list) -> bytes:
    content = [struct.pack("<BII", 1, POLYGON, len(rings))]
    for ring in rings:
        points = np.asarray(ring, "<f8")
        content += [struct.pack("<I", len(points)), points.tobytes()]
    return b"".join(content)

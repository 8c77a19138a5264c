"""Scores of label images: one match per image, stored as records, from which every protocol computes.

`evaluate` does it all in one call. Reads bottom up: inputs, rle (pixels to runs), pieces, outline, shape, pairs, match,
records; panoptic, assignment, detection, overlap and aggregate; then protocols, sizes and curves on top of them.
"""

__all__ = ["PROTOCOLS", "Evaluation", "Records", "evaluate"]


def __getattr__(name: str):
    # at first use: whoever needs one small module of this package does not wait for all of them
    if name in ("evaluate", "Evaluation"):
        from . import api as home
    elif name == "PROTOCOLS":
        from . import protocols as home
    elif name == "Records":
        from . import records as home
    else:
        raise AttributeError(f"module 'benchmark.metrics' has no attribute '{name}'")
    return getattr(home, name)

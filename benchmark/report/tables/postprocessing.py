"""The table of a post-processing grid: scores of every setting, and gains by nucleus size."""

import math

import numpy as np

from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.sizes import by_size
from benchmark.report.render.table import Block, Table

SCORES = ("bPQ", "mPQ", "F1")
KINDS = ("PQ", "recall")


def table(run, records: dict, grid: dict, protocol: str) -> Table:
    """Table of one run.

    Args:
        run: `results.run.Run` whose kept maps were decoded.
        records: setting's name -> Records, the reference first.
        grid: setting's name -> settings of the run's representation.
        protocol: name of the protocol whose scores are shown.
    """
    classes, tissues = run.config["classes"], run.config["tissues"]
    names = list(records)
    scores = {k: PROTOCOLS[protocol].summary(r, classes, tissues) for k, r in records.items()}
    sizes = {k: by_size(r) for k, r in records.items()}
    first = sizes[names[0]]
    bins = [f"{name} µm ({int(n)})" for name, n in zip(first["bin"], first["n_true"])]
    title = f"Post-processing of {run.id}: settings of the decoding, protocol `{protocol}`"
    out = Table("postprocessing", title, blocks=[_scores(names, records, scores)])
    for kind in KINDS:
        out.blocks.append(_gains(names, sizes, kind, bins))
    for name in names:
        line = {"setting": name} | vars(grid[name])
        line |= {f"{protocol}/{s}": scores[name].get(s, math.nan) for s in SCORES}
        line["predicted"] = int(records[name].images["n_pred"].sum())
        for kind in KINDS:
            line |= {f"{kind} {b}": float(v) for b, v in zip(sizes[name]["bin"], sizes[name][kind])}
        out.records.append(line)
    stored = run.metrics["protocols"].get(protocol, {}).get("bPQ")
    now = scores[names[0]].get("bPQ", math.nan)
    out.notes = [
        "Sizes: equivalent diameter of the true nucleus (false positives: of the predicted one); in brackets the "
        "number of true nuclei. Matched once on whole images, pooled over them.",
        f"'{names[0]}' is the reference: below it, sizes show the difference to it. Kept maps are in half precision: "
        f"the run itself had bPQ {_text(stored)}, its maps give {_text(now)}.",
    ]
    return out


def _scores(names: list[str], records: dict, scores: dict) -> Block:
    lines = [["setting", *SCORES, "nuclei predicted"]]
    for name in names:
        predicted = int(records[name].images["n_pred"].sum())
        lines.append([name, *(_text(scores[name].get(s)) for s in SCORES), str(predicted)])
    return Block(lines)


def _gains(names: list[str], sizes: dict, kind: str, bins: list[str]) -> Block:
    """A score by nucleus size: of the first setting, then the difference to it of the others."""
    base = sizes[names[0]][kind].to_numpy()
    lines = [["setting", *bins], [names[0], *map(_text, base)]]
    for name in names[1:]:
        change = sizes[name][kind].to_numpy() - base
        lines.append([name, *(_text(v, "+.3f") for v in change)])
    return Block(lines, title=f"{kind} by size (difference to '{names[0]}')")


def _text(value, form: str = ".3f") -> str:
    return "–" if value is None or not np.isfinite(value) else format(float(value), form)

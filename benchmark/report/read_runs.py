"""What tables need of the records of runs: read once each, by several processes where the runs are many.

A run has few images, so that calls cost more than arithmetic: the records of several runs are scored as one.
"""

import contextlib
from collections.abc import Iterator

import pandas as pd

from benchmark.metrics.records import Records, Several, alike
from benchmark.report.select.observations import image_frame
from benchmark.report.select.store import Store, split
from benchmark.report.stats.sizes import FRAMES
from benchmark.results.run import UNREADABLE, Run
from benchmark.runtime.workers import in_order, usable_cores

MANY = 200  # runs from which processes pay: each takes some two seconds to start, a run 10 ms
BATCH = 48  # runs that a process is handed at once
ROWS = 1 << 17  # overlap rows of runs scored as one: more gain nothing, their arrays leave the cache

# (places of runs in their batch, name in `Store` -> (frame, the lines of a run after those of another; lines of each))
Scored = tuple[list[int], dict[str, tuple[pd.DataFrame, list[int]]]]


def read_runs(runs: list[Run], protocols: list[str], store: Store) -> None:
    """Put what tables need of all runs into `store`. A run whose records are damaged is left out without a word: who
    asks for its scores next names it."""
    names = [f"images-{protocol}" for protocol in protocols] + ["sizes"]
    unread = [run for run in runs if any(store.lacks(run, name) for name in names)]
    batches = [unread[i : i + BATCH] for i in range(0, len(unread), BATCH)]
    workers = usable_cores() if len(unread) >= MANY and usable_cores() > 1 else 0
    computed = in_order(_score, [(batch, protocols) for batch in batches], workers, ahead=2)
    for batch, scored in zip(batches, computed, strict=True):
        for places, frames in scored:
            for name, (whole, lines) in frames.items():
                for place, frame in zip(places, split(whole, lines), strict=True):
                    store.add(batch[place], {name: frame})


def _score(runs: list[Run], protocols: list[str]) -> list[Scored]:
    """The frames of all runs whose records can be read."""
    loaded = {}
    for place, run in enumerate(runs):
        with contextlib.suppress(*UNREADABLE):
            loaded[place] = run.records()
    out = []
    for places in _together(runs, loaded, protocols):
        n_classes = len(runs[places[0]].config["classes"])
        try:
            out.append((places, _frames([loaded[place] for place in places], protocols, n_classes)))
        except UNREADABLE:  # of one of them: the others have their scores
            for place in places if len(places) > 1 else []:
                with contextlib.suppress(*UNREADABLE):
                    out.append(([place], _frames([loaded[place]], protocols, n_classes)))
    return out


def _together(runs: list[Run], loaded: dict[int, Records], protocols: list[str]) -> Iterator[list[int]]:
    """Places of runs that can be scored as one, each of `loaded` once."""
    from benchmark.metrics.protocols import PROTOCOLS

    by_image = all(PROTOCOLS[name].by_image for name in protocols)
    groups: dict[tuple, list[int]] = {}
    for place, records in loaded.items():
        shared = alike(records) if by_image else None
        key = (place,) if shared is None else (len(runs[place].config["classes"]), *shared)
        groups.setdefault(key, []).append(place)
    for group in groups.values():
        chosen, rows = [], 0
        for place in group:
            own = len(loaded[place].columns.image)
            if chosen and rows + own > ROWS:
                yield chosen
                chosen, rows = [], 0
            chosen.append(place)
            rows += own
        yield chosen


def _frames(parts: list[Records], protocols: list[str], n_classes: int) -> dict[str, tuple[pd.DataFrame, list[int]]]:
    """Name -> (frame of all parts, lines of each)."""
    records = parts[0] if len(parts) == 1 else Several(parts)
    images = [part.columns.n for part in parts]
    out = {f"images-{name}": (image_frame(records, name, n_classes), images) for name in protocols}
    for name, compute in FRAMES.items():
        frame = compute(records)
        out[name] = frame, [len(frame) // len(parts)] * len(parts)
    return out

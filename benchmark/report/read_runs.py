"""What tables need of the records of runs: read once each, by several processes where the runs are many."""

import contextlib

import pandas as pd

from benchmark.report.select.observations import image_scores
from benchmark.report.select.store import Store
from benchmark.report.stats.sizes import size_scores
from benchmark.results.run import UNREADABLE, Run
from benchmark.runtime.workers import in_order, usable_cores

MANY = 200  # runs from which processes pay: each takes some two seconds to start, a run 20 ms
BATCH = 16  # runs that a process is handed at once


def read_runs(runs: list[Run], protocols: list[str], store: Store) -> None:
    """Put what tables need of all runs into `store`. A run whose records are damaged is left out without a word: who
    asks for its scores next names it."""
    names = [f"images-{protocol}" for protocol in protocols] + ["sizes"]
    unread = [run for run in runs if any(store.lacks(run, name) for name in names)]
    batches = [unread[i : i + BATCH] for i in range(0, len(unread), BATCH)]
    workers = usable_cores() if len(unread) >= MANY and usable_cores() > 1 else 0
    computed = in_order(_frames, [(batch, protocols) for batch in batches], workers, ahead=2)
    for batch, frames in zip(batches, computed, strict=True):
        for run, of_run in zip(batch, frames, strict=True):
            store.add(run, of_run)


def _frames(runs: list[Run], protocols: list[str]) -> list[dict[str, pd.DataFrame]]:
    """Name -> frame of each run, as `Store` knows them."""
    frames = []
    for run in runs:
        store = Store()
        with contextlib.suppress(*UNREADABLE):
            for name in protocols:
                image_scores(run, name, store)
            size_scores(run, store)
        frames.append(store.frames(run))
    return frames

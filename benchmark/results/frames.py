"""Stored runs as DataFrames: facts and cost, scores, records."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmark.results.collect import finished, no_runs, runs
from benchmark.results.run import UNREADABLE, Run, skipped
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError

KEY = ("dataset", "method", "kind", "fold", "seed", "file")


class Frames(NamedTuple):
    """Tables of one or several runs. Every row begins with the run that it belongs to, in the columns of KEY.

    Attributes:
        runs: a row per run: KEY, folder, preset, settings (of the recipe, "" where it is the one that all share),
            backbone, weights (of its encoder), commit, finished (ISO 8601, UTC), n_images, best_epoch, and what
            `cost.json` holds: params, trainable, gflops, images_per_second, train_seconds, peak_memory_bytes, …
        scores: a row per run, protocol and score: KEY, protocol, version (of the protocol), score (a key of
            `Protocol.summary`), value (float64, NaN where it is undefined).
        images, overlaps, nuclei: the records, see `metrics.records.Records`: KEY, then their columns. `image` is the
            number within the run.

    Dtypes: fold, seed, n_images int64; dataset, method, kind, file categorical in `images`, `overlaps` and `nuclei`,
    text elsewhere; a fact that a run lacks is NaN or None.
    """

    runs: pd.DataFrame
    scores: pd.DataFrame
    images: pd.DataFrame
    overlaps: pd.DataFrame
    nuclei: pd.DataFrame


def load(folder: str | Path) -> Frames:
    """Read a run, or all complete runs below a results folder.

    Args:
        folder: `results/<dataset>/<method>/fold<k>-seed<s>`, or `results`. Below a results folder, what is damaged or
            foreign is named on stderr and left out.

    Raises:
        InputError: no such folder, the folder of an unfinished run, no complete run, or damaged records of a single
            run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of results or of a run, found {_kind_of(folder)}.")
    single = RunFolder(folder).config.exists() or RunFolder(folder).complete
    complete = [finished(folder)] if single else runs(folder)
    facts: list[dict] = []
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in ("scores", "images", "overlaps", "nuclei")}
    for run in complete:
        try:
            records = run.records()
        except UNREADABLE as error:
            if single:
                raise InputError(f"{folder}: its records cannot be read ({error}); make the run anew.") from error
            skipped(run.folder, error)
            continue
        key = dict(zip(KEY, (run.id.dataset, run.id.method, run.id.kind, run.id.split, run.id.seed, run.id.file)))
        facts.append(key | _facts(run))
        tables["scores"].append(_scores(run, key))
        for name in ("images", "overlaps", "nuclei"):
            table = getattr(records, name)
            columns = {column: pd.Series(value, table.index) for column, value in key.items()}
            tables[name].append(pd.concat([pd.DataFrame(columns), table], axis=1))
    if not facts:
        raise InputError(no_runs(folder, [], None))
    joined = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    frames = Frames(pd.DataFrame(facts), **joined)
    words = dict.fromkeys(("dataset", "method", "kind", "file"), "category")
    return frames._replace(**{name: getattr(frames, name).astype(words) for name in ("images", "overlaps", "nuclei")})


def _facts(run: Run) -> dict:
    backbone, weights = run.backbone
    facts: dict = {"folder": str(run.folder), "preset": run.scale, "settings": run.settings}
    facts |= {"backbone": backbone, "weights": weights}
    facts |= {name: run.provenance.get(name) for name in ("commit", "finished")}
    facts |= {name: run.metrics.get(name) for name in ("n_images", "best_epoch")}
    return facts | run.cost


def _scores(run: Run, key: dict) -> pd.DataFrame:
    lines = [
        key | {"protocol": protocol, "version": values.get("version"), "score": score, "value": value}
        for protocol, values in run.metrics["protocols"].items()
        for score, value in values.items()
        if score != "version"
    ]
    return pd.DataFrame(lines, columns=[*KEY, "protocol", "version", "score", "value"]).astype({"value": "float64"})


def _kind_of(path: Path) -> str:
    return "a file" if path.exists() else "nothing"

"""The folder of a run: what its files are called, the order in which they appear, and how they are read.

No other module spells the name of one of these files. `metrics.json` is written last: its presence means that the run
is complete.
"""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from benchmark.results import manifest
from benchmark.results.card import card
from benchmark.results.predictions import write as write_predictions
from benchmark.results.run import Run, checked, identity_of, read_object, readable
from benchmark.results.run_id import RunId
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic, finite, sweep, write_json

RAW_MAPS = "maps-*.npz"  # one file a process, * its rank
STALE = "_stale"  # folder of results/ for what was moved aside, see `results.aside`
COMPACT = "compact.json"  # of a run in compact form, see `results.compact`


@dataclass(frozen=True)
class RunFolder:
    """Names of the files in a run's folder, and the order in which they are written."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> Path:
        """What was run; written when the run begins."""
        return self.path / "config.json"

    @property
    def log(self) -> Path:
        """A line of JSON per epoch."""
        return self.path / "log.jsonl"

    @property
    def checkpoint(self) -> Path:
        """State of an unfinished training."""
        return self.path / "checkpoint.pt"

    @property
    def weights(self) -> Path:
        """The selected weights, safetensors."""
        return self.path / "weights.safetensors"

    @property
    def is_run(self) -> bool:
        """Whether a run, finished or not, left its configuration or its weights here."""
        return self.config.is_file() or self.weights.is_file()

    @property
    def selected_weights(self) -> Path:
        """`weights`, which exist. Raises InputError where they were removed, or there never were any."""
        if self.weights.is_file():
            return self.weights
        config = self.stored(self.config)
        if self.weights.name not in manifest.files_of(self.stored(self.metrics)):
            raise InputError(f"{self}: expected a run that stored weights, this one did not; name another run.")
        words = [f"--{key} {config.get(key)}" for key in ("dataset", "method", "fold", "seed")]
        raise InputError(
            f"{self}: its weights were removed ({self.weights.name}); move the folder away and run it again with "
            f"{' '.join(words)}."
        )

    @property
    def next_weights(self) -> Path:
        """Weights of a better epoch, until the checkpoint that holds their hash is written."""
        return self.path / "weights-next.safetensors"

    @property
    def predictions(self) -> Path:
        """Instance maps and types of the test images, see `results.predictions`."""
        return self.path / "predictions.npz"

    @property
    def provenance(self) -> Path:
        """Command, commit, versions, hardware."""
        return self.path / "provenance.json"

    @property
    def cost(self) -> Path:
        """Time and memory."""
        return self.path / "cost.json"

    @property
    def card(self) -> Path:
        """What the run is, for people: see `results.card`."""
        return self.path / "card.md"

    @property
    def metrics(self) -> Path:
        """Scores, and the identity of the result."""
        return self.path / "metrics.json"

    @property
    def failed(self) -> Path:
        """Why the last attempt failed."""
        return self.path / "failed.txt"

    @property
    def owner(self) -> Path:
        """Host and process that run it now."""
        return self.path / "owner.txt"

    @property
    def queued(self) -> Path:
        """Name of the Slurm job that is to run it; what Slurm has forgotten counts for nothing."""
        return self.path / "queued.txt"

    @property
    def queued_as(self) -> str:
        """The name in `queued`, "" where there is none."""
        try:
            return self.queued.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    @property
    def leaving(self) -> Path:
        """Name of the folder that the result here is being moved to; there from the first file moved to the last."""
        return self.path / "moving-aside.txt"

    @property
    def left(self) -> list[Path]:
        """All that runs left here, sorted by name, but lock, owner, `queued` and `leaving`."""
        kept = {self._lock, self.owner, self.queued, self.leaving}
        return sorted(path for path in self.path.iterdir() if path not in kept) if self.path.is_dir() else []

    def raw_maps(self, rank: int) -> Path:
        """Raw maps that process `rank` predicted, see `results.raw_maps`."""
        return self.path / RAW_MAPS.replace("*", str(rank))

    @property
    def all_raw_maps(self) -> list[Path]:
        """Existing files of raw maps, sorted by name."""
        return sorted(self.path.glob(RAW_MAPS))

    @property
    def complete(self) -> bool:
        """Whether the run ended, and is not being moved aside; `experiment.state` decides whether it is up to date."""
        return self.metrics.exists() and not self.leaving.exists()

    @property
    def records(self) -> list[Path]:
        """The tables of records."""
        from benchmark.metrics.records import TABLES

        return [self.path / f"{name}.parquet" for name in TABLES]

    @property
    def kept(self) -> list[Path]:
        """The files that make a result: JSON, log and records. Weights, predictions and raw maps may be removed."""
        return [self.config, self.metrics, self.cost, self.provenance, self.log, *self.records]

    @property
    def files(self) -> dict[str, dict]:
        """The run's files as metrics.json and provenance.json list them, see `results.manifest`; {} without a list.

        Raises manifest.Damaged when one of the two is damaged.
        """
        return self._listed_in(self.provenance) | self._listed_in(self.metrics)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the types 1..C in the run's files; () where there is no readable config.json of a run."""
        config = self.stored(self.config)
        names = config.get("classes") if "method" in config else None
        return tuple(map(str, names)) if isinstance(names, list) else ()

    def check(self, *paths: Path) -> None:
        """Compare files with the hashes that are listed.

        Raises:
            manifest.Damaged: one is there and differs, or the file that lists its hash is damaged.
        """
        for path in paths:
            files = self._listed_in(self.metrics)
            if path in (self.log, self.cost, self.card):
                files = files | self._listed_in(self.provenance)
            manifest.check(path, files)

    def _listed_in(self, path: Path) -> dict[str, dict]:
        """The files that one JSON file lists; {} where there is none, or no finished run."""
        if not self.complete or not path.exists():
            return {}
        try:
            content = read_object(path)
        except ValueError as error:
            raise manifest.Damaged(f"{path}: expected what the run wrote, {error}; make the run anew.") from error
        manifest.check_content(path, content)
        return manifest.files_of(content)

    def lock(self) -> filelock.FileLock:
        """The run's lock: held while it runs, freed by the operating system when its owner dies."""
        self.path.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self._lock)

    def held(self) -> bool:
        """Whether a live process holds the lock."""
        if not self._lock.exists():
            return False
        try:
            with filelock.FileLock(self._lock).acquire(timeout=0.1, poll_interval=0.02):  # a look holds it for a moment
                return False
        except filelock.Timeout:
            return True
        except OSError:  # a results folder that is only to be read: its owner's file says it
            return self.owner.exists()

    @property
    def _lock(self) -> Path:
        return self.path / ".lock"

    def sweep(self) -> None:
        """Remove half-written files of a process that was killed; only for who holds the lock."""
        sweep(self.path)

    def queue(self, name: str) -> None:
        """Name the Slurm job that is to run it."""
        with atomic(self.queued, "w") as handle:
            handle.write(f"{name}\n")

    def begin(self) -> None:
        """Name this process as the owner; an earlier result or failure is no longer one."""
        with atomic(self.owner, "w") as handle:
            handle.write(f"{socket.gethostname()} pid {os.getpid()}\n")
        self.metrics.unlink(missing_ok=True)
        self.failed.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what a process left that was killed after it had stored its result: checkpoint and owner."""
        if self.complete and (self.checkpoint.exists() or self.owner.exists()):
            with contextlib.suppress(OSError, filelock.Timeout), self.lock().acquire(timeout=0):
                self.checkpoint.unlink(missing_ok=True)
                self.owner.unlink(missing_ok=True)

    def fail(self, why: str) -> None:
        """Keep the reason of a failure; where it cannot be written the failure itself, which is raised, says it.

        Of several processes the first to fail is kept: the others fail because it is gone.
        """
        with contextlib.suppress(OSError):
            with open(self.failed, "x", encoding="utf-8") as handle:
                try:
                    handle.write(why)
                    handle.flush()
                except OSError:
                    self.failed.unlink(missing_ok=True)

    def end(self) -> None:
        """Remove the mark of the owner, whether the run succeeded or not."""
        with contextlib.suppress(OSError):
            self.owner.unlink(missing_ok=True)

    def finish(self, *, config: dict, records, predictions: list, provenance: dict, cost: dict, metrics: dict) -> None:
        """Store a result, `metrics.json` last; the checkpoint of its training is removed.

        Args:
            records: `metrics.records.Records`.
            predictions: a `results.predictions.Packed` per test image.
            config, provenance, cost, metrics: contents of the JSON files of these names.
        """
        metrics = dict(metrics)
        with self.replacing(metrics):
            records.save(self.path)
            write_predictions(self.predictions, predictions)
            write_json(self.config, config)
            write_json(self.cost, cost)
            metrics |= self._listed(metrics)
            self.describe(config, metrics, cost, provenance)
        self.checkpoint.unlink(missing_ok=True)
        self.queued.unlink(missing_ok=True)

    def describe(self, config: dict, metrics: dict, cost: dict, provenance: dict) -> None:
        """Write the card, then the provenance, which lists it: both differ from machine to machine."""
        run = Run(identity_of(config), self.path, *map(finite, (config, metrics, cost, provenance)))
        with atomic(self.card, "w") as handle:
            handle.write(card(run))
        write_json(self.provenance, manifest.listed(provenance, removable=[self.cost, self.log, self.card]))

    def list_files(self) -> None:
        """List the files in metrics.json again: some were added to the result."""
        write_json(self.metrics, self._listed(read_object(self.metrics)))

    def _listed(self, metrics: dict) -> dict:
        removable = [self.weights, self.predictions, *self.all_raw_maps]
        return manifest.listed(metrics, [self.config, *self.records], removable)

    @contextlib.contextmanager
    def replacing(self, metrics: dict) -> Iterator[None]:
        """While the files of a result are written there is no `metrics.json`; it is written after them."""
        self.metrics.unlink(missing_ok=True)
        yield
        write_json(self.metrics, metrics)

    def read(self, stream=None) -> Run | None:
        """The complete run that lies here, None when it is not complete.

        Args:
            stream: where a damaged cost or provenance is named; such a run is still one (default stderr).

        Raises:
            ValueError: no path of a run, or a file that is absent, damaged or of another run. Of the records presence
                and size are compared here, the content where they are read.
        """
        identity = RunId.of(self.path)
        if not self.complete:
            return None
        metrics = read_object(self.metrics)
        manifest.check_content(self.metrics, metrics)
        files = manifest.files_of(metrics)
        if damaged := manifest.faults(self.path, files, manifest.NEEDED):
            raise ValueError(f"{'; '.join(damaged)}; make the run anew")
        manifest.check(self.config, files)
        config = read_object(self.config)
        checked(identity, config, metrics)
        provenance = readable(
            self.provenance, stream, expected=bool(files)
        )  # no list holds it: it has a checksum within
        cost = readable(self.cost, stream, manifest.files_of(provenance))
        return Run(identity, self.path, config, metrics, cost, provenance)

    def stored(self, path: Path) -> dict:
        """A JSON file of this run, {} when it is absent, damaged or no object."""
        try:
            return read_object(path)
        except ValueError:
            return {}


def predictions_of(path: Path) -> Path:
    """The file of predictions that is meant: of a run's folder its predictions.npz, else the path itself.

    Raises:
        InputError: the folder of an unfinished run, or of one without predictions.
        manifest.Damaged: predictions that are not those that the run wrote.
    """
    if not path.is_dir():
        RunFolder(path.parent).check(path)
        return path
    folder = RunFolder(path)
    if not (folder.config.exists() or (folder.predictions.exists() and folder.complete)):
        return path
    if not folder.complete or not folder.predictions.exists():
        lacking = folder.predictions if folder.complete else folder.metrics
        raise InputError(
            f"{path}: expected a finished run with its predictions, it has no {lacking.name}; run it anew."
        )
    return predictions_of(folder.predictions)


def run_folders(results: Path) -> list[RunFolder]:
    """Folders below `results` that lie where runs lie, `<dataset>/<method>/<run>`, sorted by name.

    What was moved aside, or is being written, is none of them.
    """
    results = Path(results)
    folders = (path for path in sorted(results.glob("*/*/*")) if path.is_dir() and not path.name.startswith("."))
    return [RunFolder(path) for path in folders if path.relative_to(results).parts[0] != STALE]


def check_results(results: Path, writes: bool = True) -> None:
    """Refuse a results folder that is no folder or, for who `writes`, cannot be written. Raises InputError."""
    for path in [results, *results.parents]:
        if path.exists():
            if not path.is_dir():
                raise InputError(f"{path}: expected a folder for results, found a file; move it away or set RESULTS=.")
            break
    if not writes:
        return
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise InputError(
            f"{results}: cannot write results there ({error.strerror}); set RESULTS= elsewhere."
        ) from error

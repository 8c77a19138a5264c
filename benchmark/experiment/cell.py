"""One cell of an experiment: a method on a fold with a seed. What it is, what identifies its result, its state."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import filelock

from benchmark.data import registry as datasets
from benchmark.experiment import config, encoder_weights
from benchmark.experiment.encoder_weights import file_mark
from benchmark.methods import registry
from benchmark.results import identity
from benchmark.results.run_folder import CHECKPOINT, FAILED, LOCK, METRICS, OWNER
from benchmark.results.run_id import RunId
from benchmark.runtime.files import read_json
from benchmark.training import recipe


@dataclass(frozen=True, eq=False)
class Setup:
    """What all cells of one command share; compared by identity.

    Attributes:
        preset: scale of methods whose name gives no row.
        backbone: weights for published encoders: a local file, "hub", "random", several of these by the encoders'
            names (see `encoder_weights`), or None (not given).
        overrides: dotted recipe keys.
    """

    dataset: str
    data_root: str | None
    preset: str
    experiment: str
    results: Path
    cache: Path
    device: str = "auto"
    backbone: str | None = None
    overrides: tuple[tuple[str, object], ...] = ()

    @functools.cached_property
    def config(self):
        """The loaded experiment."""
        return config.load(self.experiment)

    @functools.cached_property
    def source(self):
        """The dataset's Source."""
        return datasets.dataset(self.dataset, self.data_root)

    @property
    def label(self) -> str:
        """What results call the dataset: the name in `dataset.toml` for a folder, else the name as given."""
        return self.source.name if self.dataset.partition("@")[0] == "folder" else self.dataset

    @functools.cached_property
    def records(self) -> int:
        """Version of the stored records. Protocols are not part of a result's identity: all are computed from its
        records, anew where a stored score is missing or of another version."""
        from benchmark.metrics.records import VERSION

        return VERSION


@dataclass(frozen=True)
class Cell:
    """A method on a fold with a seed, within a setup."""

    setup: Setup
    spec: registry.Spec
    fold: int
    seed: int

    @property
    def run(self) -> RunId:
        return RunId(self.setup.label, str(self.spec), self.fold, self.seed, self.setup.config.kind)

    @property
    def folder(self) -> Path:
        return self.run.folder(self.setup.results)

    @property
    def trains(self) -> bool:
        """Whether the method is trained here; else it has nothing to train or its weights come from a file."""
        return registry.method_class(self.spec.name).trainable

    def heads(self, data) -> tuple[int, int]:
        """(classes, tissues) that the method is built for."""
        return len(data.classes), len(data.tissues)

    def fill(self, method) -> None:
        """Give the method its weights where it is not trained here."""

    def told(self) -> dict:
        """Entries of config.json that differ from those of a trained cell."""
        return {}

    @functools.cached_property
    def recipe(self) -> dict:
        """The recipe in force."""
        name = self.setup.dataset.partition("@")[0]
        return recipe.recipe_for(self.setup.config, self.spec, dict(self.setup.overrides), name)

    @property
    def given(self) -> str | None:
        """What the setup gives for this method's encoder: a file, "hub", "random" or None."""
        cls, arguments = registry.method_class(self.spec.name), self.spec.arguments
        is_vit = cls.backbone_of(arguments) is not None
        return encoder_weights.given(self.setup.backbone, cls.encoder_of(arguments), is_vit)

    @functools.cached_property
    def weights(self) -> tuple[str | None, str]:
        """(what fills the encoder: "pretext", a file, "hub" or None; what the tables call it)."""
        name = registry.method_class(self.spec.name).encoder_of(self.spec.arguments)
        given = self.given
        if name is None or given == "random":
            return None, "random"
        if given == "hub":
            return "hub", f"{name} (hub)"
        if given:
            return given, f"{Path(given).name}:{file_mark(Path(given))}"
        from benchmark.training import pretrain

        if name in pretrain.BACKBONES and self.recipe["pretrain"] != 0:
            return "pretext", f"synthetic pretext:{pretrain.key(name, updates=self.recipe['pretrain'])}"
        return None, "random"

    def supports(self) -> tuple[bool, str]:
        """(runnable here, reason when not)."""
        cls = registry.method_class(self.spec.name)
        given = self.given or ("random" if self.weights[0] == "pretext" else None)
        return cls.supports(self.spec.arguments | {"weights": given})

    def parts(self) -> dict:
        """Everything that decides the result, as JSON-able values."""
        cls = registry.method_class(self.spec.name)
        return {
            "method": str(self.spec),
            "method_version": cls.version,
            "arguments": self.spec.arguments,
            "kind": self.setup.config.kind,
            "recipe": {k: v for k, v in self.recipe.items() if k != "workers"} if cls.trainable else {},
            "backbone": self.weights[1],
            "dataset": self.setup.label,
            "data": data_identity(self.setup, self.fold),
            "fold": self.fold,
            "seed": self.seed,
            "records": self.setup.records,
        }

    @functools.cached_property
    def key(self) -> str:
        """Identity of the result."""
        return identity.key(self.parts())

    def lock(self) -> filelock.FileLock:
        """The cell's lock: held while it runs, freed by the operating system when its owner dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.folder / LOCK)

    def state(self, locked: bool = False) -> tuple[str, str]:
        """(state, why): done, stale, running, skipped, partial, failed or missing; derived, never stored.

        Args:
            locked: this process holds the cell's lock, so nobody runs it.
        """
        folder = self.folder
        found, why = self._done_or_stale() if (folder / METRICS).exists() else ("", "")
        if found == "done":
            return found, why
        supported, reason = self.supports()
        if not supported:
            return "skipped", f"{reason}; the stored result is stale: {why}" if found == "stale" else reason
        if found:
            return found, why
        if not locked and (folder / LOCK).exists() and _held(folder / LOCK):
            return "running", f"owner {_text(folder / OWNER).strip() or 'unknown'}"
        if (folder / FAILED).exists():
            lines = [line for line in _text(folder / FAILED).splitlines() if line.strip()]
            return "failed", lines[-1] if lines else "no traceback was kept"
        if (folder / CHECKPOINT).exists():
            if self._stored("config.json").get("key") != self.key:
                return "partial", "its checkpoint belongs to another configuration; starts over"
            epochs = len(_text(folder / "log.jsonl").splitlines())
            return "partial", f"{epochs} of {self.recipe['epochs']} epochs; resumes"
        return "missing", "not run yet"

    def _stored(self, name: str) -> dict:
        """A JSON file of the run's folder, {} when it is absent, damaged or no object."""
        try:
            found = read_json(self.folder / name)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _done_or_stale(self) -> tuple[str, str]:
        old = self._stored(METRICS).get("identity")
        if not isinstance(old, dict):
            return "failed", f"{self.folder / METRICS} is damaged; it is replaced by a new run"
        new = json.loads(json.dumps(self.parts(), default=list))
        if new["data"] is None:
            old, new = old | {"data": None}, new
        differences = identity.differing(old, new)
        if differences:
            return "stale", "; ".join(differences[:4]) + (" …" if len(differences) > 4 else "")
        return "done", ""


@functools.lru_cache(maxsize=16)
def data_identity(setup: Setup, fold: int) -> str | None:
    """Fingerprint of the data that split `fold` uses; None when they are not prepared yet."""
    from benchmark.data.store.prepare import opened

    data = opened(setup.source, setup.cache, fold)
    return data.fingerprint(fold)[:16] if data else None


def _text(path: Path) -> str:
    """What a file says; "" when it is gone: its owner may have removed it since we looked."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _held(path: Path) -> bool:
    try:
        with filelock.FileLock(path).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True

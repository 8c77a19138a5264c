"""The settings that all cells of one command share."""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

from benchmark.data import registry as datasets
from benchmark.data import set_names
from benchmark.experiment import config


@dataclass(frozen=True, eq=False)
class Setup:
    """Experiment, data set, scale and folders; compared by identity.

    Attributes:
        preset: scale of methods whose name gives no row.
        backbone: weights for published encoders: a local file, "hub", "random", several of these by the encoders'
            names (see `encoder_weights`), or None for the default.
        overrides: dotted recipe keys with their values.
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

    def to_json(self) -> dict:
        """Its fields as JSON-able values, for a process that runs one of its cells."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"results": str(self.results), "cache": str(self.cache)}

    @classmethod
    def from_json(cls, values: dict) -> "Setup":
        """The inverse of `to_json`."""
        overrides = tuple((key, _tuples(value)) for key, value in values["overrides"])
        paths = {name: Path(values[name]) for name in ("results", "cache")}
        return cls(**{**values, **paths, "overrides": overrides})

    @functools.cached_property
    def config(self):
        """The loaded experiment."""
        return config.load(self.experiment)

    @functools.cached_property
    def source(self):
        """The dataset's Source."""
        return datasets.dataset(self.dataset, self.data_root)

    @property
    def dataset_name(self) -> str:
        """Registered name of the data set, without its arguments; of several that are joined, theirs with a plus."""
        return set_names.JOIN.join(map(set_names.registered, set_names.split(self.dataset, datasets.dataset_names())))

    @property
    def label(self) -> str:
        """Name of the data set in results: the user's, such as that of a folder's `dataset.toml`, else `dataset`."""
        return datasets.results_name(self.dataset, self.source)


def _tuples(value):
    """Lists of JSON, which has no tuples, as the tuples of the command line."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def data_fingerprint(setup: Setup, split: int) -> str | None:
    """Fingerprint of the data that a published split uses; None when they are not prepared as they are now.

    The data are looked at once, and again when something was prepared since.
    """
    cache = Path(setup.cache)
    return _data_fingerprint(setup, split, frozenset(path.name for path in cache.iterdir()) if cache.is_dir() else None)


@functools.lru_cache(maxsize=64)
def _data_fingerprint(setup: Setup, split: int, prepared: frozenset[str] | None) -> str | None:
    """As `data_fingerprint`. prepared: names in the cache, None without one."""
    from benchmark.data.store.prepare import opened

    data = opened(setup.source, setup.cache, split)
    return data.fingerprint(split)[:16] if data else None

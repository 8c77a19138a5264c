"""One cell of an experiment: a method on a published split with a seed, and everything that decides its result."""

import functools
from dataclasses import dataclass, replace

from benchmark.experiment.encoder_weights import EncoderWeights
from benchmark.experiment.setup import Setup, data_fingerprint
from benchmark.experiment.weights_source import TRAINED_HERE, FromFile, TrainedHere
from benchmark.methods import registry
from benchmark.results import identity
from benchmark.results.method_name import Word, canonical
from benchmark.results.run_folder import RunFolder
from benchmark.results.run_id import RunId
from benchmark.training.recipe import Recipe


@dataclass(frozen=True)
class Cell:
    """A method on a split with a seed, within a setup.

    Attributes:
        split: published split of the data set, counted from 1.
        weights: where they come from: training in the run itself, or a file (see `weights_source`).
        overrides: dotted recipe keys with their values, of this row of the experiment alone.
    """

    setup: Setup
    spec: registry.Spec
    split: int
    seed: int
    weights: TrainedHere | FromFile = TRAINED_HERE
    overrides: tuple[tuple[str, object], ...] = ()

    def at(self, split: int, seed: int) -> "Cell":
        """The same method, trained alike, on another split with another seed."""
        other = replace(self, split=split, seed=seed)
        for name in ("settings", "_name", "recipe", "encoder"):  # of the row: a grid has few rows and many cells
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    @property
    def cls(self):
        """The method's class."""
        return registry.method_class(self.spec.name)

    @property
    def run(self) -> RunId:
        """Name of its run, which gives the run's folder."""
        kind, file = self.weights.kind(self), self.weights.tag
        return RunId(self.setup.label, self.name, self.split, self.seed, kind, file)

    @property
    def name(self) -> str:
        """Canonical name of its method with what the user chose, see `results.method_name`."""
        return self._name[0]

    @property
    def hidden(self) -> dict[str, object]:
        """Arguments and settings for which the run's name has a hash."""
        return self._name[1]

    @functools.cached_property
    def settings(self) -> dict[str, object]:
        """What the user chose and what decides the result, beside the method and its arguments."""
        return self.weights.settings(self)

    @functools.cached_property
    def _name(self) -> tuple[str, dict[str, object]]:
        words = [Word.of(key, value) for key, value in sorted(self.spec.overrides.items())]
        for key, value in self.settings.items():
            words.append(Word.called(key, value, self.encoder.short) if key == "weights" else Word.of(key, value))
        return canonical(f"{self.spec.name}@{self.spec.row}", words)

    @property
    def folder(self) -> RunFolder:
        """Its folder below the setup's results."""
        return RunFolder(self.run.folder(self.setup.results))

    @property
    def trains(self) -> bool:
        """Whether the method is trained here; else it has nothing to train or its weights come from a file."""
        return self.weights.trains and self.cls.trainable

    @property
    def changes(self) -> dict[str, object]:
        """The overrides of the setup and of the row."""
        return dict(self.setup.overrides) | dict(self.overrides)

    @functools.cached_property
    def recipe(self) -> Recipe:
        """The recipe, with all changes applied."""
        return self.weights.recipe(self)

    @functools.cached_property
    def encoder(self) -> EncoderWeights:
        """The weights that fill the method's encoder."""
        return self.weights.encoder(self)

    def heads(self, data) -> tuple[int, int]:
        """(classes, tissues) that the method is built for; `data` has lists of both."""
        return self.weights.heads(data)

    def supports(self) -> tuple[bool, str]:
        """(runnable here, reason when not)."""
        return self.weights.supports(self)

    @property
    def identity(self) -> dict:
        """Everything that decides the result, as JSON-able values; "data" is None as long as they are not prepared.

        Protocols are no part of it: all are computed from the records, anew where a stored score is missing or of
        another version.
        """
        if self._identity["data"] is None:  # they may have been prepared since the last look
            self._identity["data"] = data_fingerprint(self.setup, self.split)
        return self._identity

    @functools.cached_property
    def _identity(self) -> dict:
        """The identity, whose data are yet to be looked at."""
        from benchmark.evaluation.prediction import stitching_version
        from benchmark.metrics.records import VERSION

        entries = {
            "method": str(self.spec),
            "method_version": self.cls.version,
            "arguments": registry.identity_arguments(self.spec),
            "dataset": self.setup.label,
            "data": None,
            "fold": self.split,
            "records": VERSION,
        }
        stitched = {"stitching": number} if (number := stitching_version(self.recipe.tiling)) else {}
        # the code of another package is in no commit of ours; the results of our own methods keep their keys
        package = {"package": name} if (name := registry.package_of(self.spec.name)) else {}
        return entries | package | stitched | self.weights.identity(self)

    @property
    def key(self) -> str:
        """Hash of the identity."""
        return identity.key(self.identity)

"""Where a cell's weights come from: training in the run itself, or a file that is only evaluated."""

import functools
import re
from dataclasses import dataclass, replace

import torch

from benchmark.data.files.class_names import ClassMap, Matched
from benchmark.data.overlap import Overlap
from benchmark.evaluation import resampling
from benchmark.evaluation.prediction import Prediction
from benchmark.experiment import config, elsewhere
from benchmark.experiment.encoder_weights import EncoderWeights, choice, random, resolve
from benchmark.methods import registry
from benchmark.results.run_id import file_tag
from benchmark.runtime.errors import InputError
from benchmark.training.recipe import Recipe
from benchmark.training.scales import recipe_for, settings
from benchmark.weights.class_list import classes_on
from benchmark.weights.fit import APART, fitted, load_official, other_split, remarks
from benchmark.weights.recognise import Facts, recognise
from benchmark.weights.trained_at import tiling_of

PREDICTS = ("precision", "tiling")  # recipe keys that decide how images are predicted


@dataclass(frozen=True)
class TrainedHere:
    """The run trains the method, or the method has nothing to train."""

    trains = True
    tag = ""
    saw_types = True

    def kind(self, cell) -> str:
        """The kind of the experiment: "main" or "published"."""
        return cell.setup.config.kind

    def recipe(self, cell) -> Recipe:
        """The recipe of the cell's scale and method with all overrides."""
        return recipe_for(cell.setup.config, cell.spec, cell.changes, cell.setup.dataset_name)

    def settings(self, cell) -> dict[str, object]:
        """What the user chose and what decides the result, beside the method and its arguments: {"recipe.clip": 0.5}.

        Values of the recipe that differ from the one that all cells of its kind share, and the label of the encoder's
        weights where it is another than without BACKBONE=.
        """
        out: dict[str, object] = {}
        if cell.cls.trainable:
            out |= settings(cell.recipe, cell.setup.config, cell.spec, cell.setup.dataset_name)
        unset = resolve(cell.cls.encoder_of(cell.spec.arguments), None, cell.recipe.pretrain)
        return out if cell.encoder.label == unset.label else out | {"weights": cell.encoder.label}

    def encoder(self, cell) -> EncoderWeights:
        """The weights of the encoder before training."""
        encoder = cell.cls.encoder_of(cell.spec.arguments)
        return resolve(encoder, self._choice(cell), cell.recipe.pretrain)

    def supports(self, cell) -> tuple[bool, str]:
        """(runnable here, reason when not), as the method's class decides for the encoder's weights."""
        weights = self._choice(cell) or ("random" if cell.encoder.source == "pretext" else None)
        return cell.cls.supports(cell.spec.arguments | {"weights": weights})

    def heads(self, data) -> tuple[int, int]:
        """As many types and tissues as the data have."""
        return len(data.classes), len(data.tissues)

    def identity(self, cell) -> dict:
        """Entries of the identity beside the method and the data."""
        recipe = cell.recipe.identity() if cell.cls.trainable else {}
        entries = {"kind": self.kind(cell), "recipe": recipe, "backbone": cell.encoder.label, "seed": cell.seed}
        return entries | ({} if self._seen(cell) is None else {"resampling": resampling.RULE})

    def describe(self, cell, encoder: EncoderWeights) -> dict:
        """Entries of config.json.

        Args:
            encoder: the weights that filled the encoder, a pretext's file once that exists.
        """
        arguments = cell.spec.arguments
        # an encoder that is no ViT is named where it was given weights
        name = cell.cls.backbone_of(arguments) or (cell.cls.encoder_of(arguments) if encoder.source else None)
        return {
            "recipe": cell.recipe.identity() if cell.cls.trainable else {},
            "backbone": {"name": name, "weights": encoder.label, "file": encoder.mark},
        }

    def completed(self, cell, config: dict) -> None:
        """None: nothing is known later than at the training."""

    def matched(self, cell) -> None:
        """None: the method predicts the data's own classes."""

    def classes(self, cell) -> tuple[str, ...]:
        """The classes by which nuclei are scored: the data's."""
        return tuple(cell.setup.source.classes)

    def prediction(self, cell) -> Prediction:
        """How images are predicted: as the recipe says; those of several data sets at the resolution of the first."""
        return replace(cell.recipe.prediction, mpp=self._seen(cell))

    def _seen(self, cell) -> float | None:
        """Micrometres per pixel at which the images of several data sets of different ones are seen; None: as they
        are."""
        source = cell.setup.source
        return source.mpp if any(resampling.differs(part.mpp, source.mpp) for part in source.parts) else None

    def left_out(self) -> tuple[int, ...]:
        """Positions on the test side of images that are not tested on: none."""
        return ()

    def fill(self, method) -> None:
        """Nothing to fill: the weights come from training."""

    def _choice(self, cell) -> str | None:
        arguments = cell.spec.arguments
        is_vit = cell.cls.backbone_of(arguments) is not None
        return choice(cell.setup.backbone, cell.cls.encoder_of(arguments), is_vit)


TRAINED_HERE = TrainedHere()


@dataclass(frozen=True, eq=False)
class FromFile:
    """A file of weights, published or of a run of this benchmark; stored as a kind of its own, never trained.

    Attributes:
        facts: layout, method and training data of the file, as `weights.recognise` reads them.
        misfit: in words, what speaks against the cell's split; "" when nothing does.
        any_fold: evaluate although the file was trained for another published split.
        class_map: which of the file's classes is which of the data's, where the user says it.
        overlap: test images that the training has seen, where the data are others than it was of; None: not known.
        saw_types: False where no training image had types, so that those that the network names mean nothing.
    """

    facts: Facts
    misfit: str = ""
    any_fold: bool = False
    class_map: ClassMap | None = None
    overlap: Overlap | None = None
    saw_types: bool = True

    trains = False

    @classmethod
    def of(
        cls,
        facts: Facts,
        dataset: str,
        split: int,
        any_fold: bool,
        class_map: ClassMap | None = None,
        overlap: Overlap | None = None,
        saw_types: bool = True,
    ) -> "FromFile":
        """A file to be evaluated on a split of a data set, by its name in results."""
        return cls(facts, other_split(facts, dataset, split), any_fold, class_map, overlap, saw_types)

    def kind(self, cell=None) -> str:
        """ "evaluated" for weights of a run of this benchmark, "official" for all others."""
        return "evaluated" if self.facts.own else "official"

    @functools.cached_property
    def tag(self) -> str:
        """Name of the file in the run's folder name."""
        tested = elsewhere.tested_mark(self.overlap, self.saw_types)
        return file_tag(self.facts.name, self.facts.sha256) + self._map_mark + tested

    @property
    def _map_mark(self) -> str:
        """What the user's map adds to the file's name: with another one it is another result."""
        return f",classes={self.class_map.mark}" if self.class_map else ""

    @property
    def _pattern(self) -> str:
        """The file's name with a star for the split that it was trained for; the name itself where it has none."""
        name = self.facts.name
        if self.misfit or not self.facts.split:
            return name
        place = r"(fold)\d(?=-seed)" if self.facts.own else r"(split[ _-]?)\d"
        return re.sub(place, r"\1*", name, flags=re.IGNORECASE)

    def recipe(self, cell) -> Recipe:
        """Precision and tiling as published, or as in the run that trained the weights, with all overrides."""
        return self._recipe(cell, cell.changes)

    def settings(self, cell) -> dict[str, object]:
        """Precision and tiling where overrides change them."""
        unchanged = self.untouched(cell)
        own = {name: getattr(cell.recipe, name) for name in PREDICTS}
        return {f"recipe.{name}": value for name, value in own.items() if value != getattr(unchanged, name)}

    def untouched(self, cell) -> Recipe:
        """`recipe` without overrides."""
        return self._recipe(cell, {})

    def _recipe(self, cell, overrides: dict[str, object]) -> Recipe:
        setup = cell.setup
        published = cell.spec.row in cell.cls.published
        experiment = config.load("published") if published and not self.facts.own else setup.config
        changes: dict[str, object] = {} if published else {"precision": "fp32"}
        changes |= {k: v for k, v in self.facts.recipe.items() if k in PREDICTS}
        if elsewhere.other_data(self.facts, setup.label):
            changes["tiling"] = "none"  # such images are resampled to the resolution of the tiles, see `elsewhere`
        return recipe_for(experiment, cell.spec, changes | overrides, setup.dataset_name)

    def encoder(self, cell) -> EncoderWeights:
        """Nothing fills the encoder alone; the tables have one row for the files of a method's splits."""
        name, pattern = self.facts.name, self._pattern
        label = f"{name}, sha256 {self.facts.sha256[:8]}" if pattern == name else pattern
        return random(label + self._map_mark + elsewhere.tested_words(self.overlap, self.saw_types))

    def supports(self, cell) -> tuple[bool, str]:
        """(True, ""): nothing but the file is needed."""
        return True, ""

    def heads(self, data) -> tuple[int, int]:
        """Types and tissues as in the file, which need not be those of the data: the tissue head is not scored."""
        facts, unknown = self.facts, len(self.class_map.to) if self.class_map else len(data.classes)
        classes = unknown if facts.classes is None else facts.classes
        return classes, len(data.tissues) if facts.tissues is None else facts.tissues

    def matched(self, cell) -> Matched | None:
        """Which class of the data each of the file's is; None for a file without types.

        Raises:
            InputError: as `class_list.classes_on` and `class_names.matched`, or a map for a file without types.
        """
        return self._classes(cell)[0]

    def _classes(self, cell) -> tuple[Matched | None, list[str]]:
        """As `matched`, and the sentences on it."""
        facts, setup = self.facts, cell.setup
        if not self.saw_types:
            return None, ["No training image had types: those that the weights name are not scored, there is no mPQ."]
        if facts.classes == 0:
            if self.class_map:
                raise InputError(f"{self.class_map.path}: {facts.path} names no types; leave --classes out.")
            return None, []
        classes = tuple(setup.source.classes)
        own, why = classes_on(facts, setup.dataset_name, setup.label, classes, self.class_map)
        matching = elsewhere.match_classes(facts, own, classes, setup.label, self.class_map)
        hint = elsewhere.schemes(own, setup.dataset, classes) if matching.shared is not None else ""
        return matching, [sentence for sentence in (why, matching.remark, hint) if sentence]

    def classes(self, cell) -> tuple[str, ...]:
        """The classes by which nuclei are scored: the data's, or those that both have."""
        return elsewhere.scored_classes(self.matched(cell), cell.setup.source.classes)

    def prediction(self, cell) -> Prediction:
        """How images are predicted; those of another data set are resampled to the resolution of the training."""
        return replace(cell.recipe.prediction, mpp=self._seen(cell))

    def left_out(self) -> tuple[int, ...]:
        """Positions on the test side of images that the training has seen."""
        return self.overlap.left_out if self.overlap else ()

    def _seen(self, cell) -> float | None:
        facts, setup = self.facts, cell.setup
        tiling = tiling_of(facts, cell.cls.published_on, cell.spec.row)
        return elsewhere.seen_mpp(facts, setup.label, setup.source.mpp, tiling)

    def identity(self, cell) -> dict:
        """Entries of the identity: the file, how it predicts, and whether it was trained for another split.

        The classes are an entry where they are not predicted under the data's numbers.
        """
        matching = self.matched(cell)
        classes = {"classes": list(matching.names)} if matching and matching.table is not None else {}
        other = elsewhere.identity(matching, self._seen(cell), self.overlap)
        other |= {} if self.saw_types else {"types": "none in training"}
        return (
            classes
            | other
            | {
                "kind": self.kind(),
                "sha256": self.facts.sha256,
                "any_fold": self.any_fold and bool(self.misfit),
                "recipe": {k: getattr(cell.recipe, k) for k in PREDICTS},
            }
        )

    def describe(self, cell, encoder: EncoderWeights) -> dict:
        """Entries of config.json."""
        facts = self.facts
        network = cell.cls.backbone_of(cell.spec.arguments) or "network"
        return {
            "recipe": {},
            "backbone": {"name": network, "weights": encoder.label, "file": facts.sha256[:12]},
            "file": {
                "tag": self.tag,
                "name": facts.name,
                "sha256": facts.sha256,
                "layout": facts.layout,
                "arch": facts.arch,
                "split": facts.split,
                "remarks": self.remarks(cell),
            },
        } | elsewhere.describe(
            facts, cell.setup.label, cell.setup.source.classes, self.matched(cell), self._seen(cell), self.overlap
        )

    def completed(self, cell, config: dict) -> dict | None:
        """A stored config.json with what is known of the overlap, where it says nothing of it; None elsewhere."""
        stored = config.get("transfer")
        if self.overlap is None or not isinstance(stored, dict) or isinstance(stored.get("overlap"), dict):
            return None
        own = self.describe(cell, cell.encoder)
        return config | {key: own[key] for key in ("file", "transfer")}

    def remarks(self, cell) -> list[str]:
        """Sentences that go with the scores."""
        data, seen = cell.setup.source, self._seen(cell)
        notes = remarks(self.facts, cell.setup.label, data.mpp, len(data.tissues), seen is not None)
        notes += self._classes(cell)[1]
        notes += [elsewhere.resampled(seen, data.mpp)] if seen is not None else []
        if self.overlap:
            notes.append(self.overlap.sentence)
        elif elsewhere.other_data(self.facts, cell.setup.label):
            notes.append("Whether the training has seen test images was not looked into; `transfer` does.")
        if self.misfit:
            notes.append(f"Evaluated all the same: {self.misfit.partition(';')[0]}.")
        return notes

    def fill(self, method) -> None:
        """Give the method the weights in the file."""
        load_official(method, self.facts.path)

    def check(self, cell) -> None:
        """Check that the file fits the cell; prepares and writes nothing.

        Raises:
            InputError: another split, types, tissues or tensors than those of the cell.
        """
        setup, data, facts = cell.setup, cell.setup.source, self.facts
        if self.misfit and not self.any_fold:
            raise InputError(f"{facts.path}: {self.misfit} (or --any-fold, which the tables will say).")
        self.matched(cell)
        # data sets of one's own list other tissues than PanNuke and are evaluated with its weights all the same
        same = not elsewhere.other_data(facts, setup.label)
        count = facts.tissues if same and setup.dataset in ("pannuke", "conic") else None
        if count and count != len(data.tissues):
            raise InputError(
                f"{facts.path}: is {facts.title}, the dataset {setup.label} has {len(data.tissues)} tissues; give "
                f"weights with {len(data.tissues)} tissues, or the dataset that these were trained on."
            )
        state, _ = recognise(facts.path)
        fitted(_unfilled(cell.spec, self.heads(data)), state, facts)


def _unfilled(spec: registry.Spec, heads: tuple[int, int]):
    """A method for its names and shapes, without memory for its parameters where it can be built so."""
    try:
        with torch.device("meta"):
            return registry.build(spec, *heads)
    except InputError:
        raise
    except Exception:  # a network of another package may need values to be built
        return registry.build(spec, *heads)


def method_name(facts: Facts, method: str | None) -> str:
    """The method to evaluate a file as.

    Args:
        method: a method's name; without a row, the file's own row is taken, else `paper`. None: the file's method.

    Raises:
        InputError: the file does not name its method, or names another one.
    """
    text = method or facts.method
    if text is None:
        raise InputError(
            f"{facts.path}: holds weights of a run, but not which: {APART}, or name the METHOD with its row and "
            "arguments."
        )
    name = text.partition("@")[0]
    if facts.method not in (None, name):
        registry.method_class(name)  # a misspelt name has a hint of its own
        raise InputError(f"{facts.path}: is {facts.title}, but METHOD is {name}; use METHOD={facts.method}.")
    return text if "@" in text else f"{name}@{facts.row or 'paper'}"

"""One cell whose weights come from a file: evaluated like any run, never trained, stored as a kind of its own."""

import functools
import re
from dataclasses import dataclass

import torch

from benchmark.experiment import config
from benchmark.experiment.cell import Cell, Setup
from benchmark.experiment.grid import cells
from benchmark.methods import registry
from benchmark.results.run_id import RunId, file_tag
from benchmark.runtime.errors import InputError
from benchmark.training import recipe
from benchmark.weights import fit
from benchmark.weights.fit import fitted, other_fold, remarks
from benchmark.weights.recognise import Facts, recognise

DECIDING = ("precision", "tiling")


@dataclass(frozen=True, eq=False)
class OfficialCell(Cell):
    """See the module. any_fold: evaluate although the file was trained for another published split."""

    facts: Facts
    any_fold: bool = False

    trains = False

    @property
    def kind(self) -> str:
        return "evaluated" if self.facts.own else "official"

    @functools.cached_property
    def misfit(self) -> str:
        """In words, what speaks against this fold; "" when nothing does."""
        return other_fold(self.facts, self.setup.label, self.fold)

    @property
    def run(self) -> RunId:
        facts = self.facts
        tag = file_tag(facts.name, facts.sha256, known=self._pattern != facts.name)
        return RunId(self.setup.label, str(self.spec), self.fold, 0, self.kind, tag)

    @property
    def _pattern(self) -> str:
        """The file's name with a star for the split that it was made for; its name where that shows no such split."""
        name = self.facts.name
        if self.misfit or not self.facts.split:
            return name
        place = r"(fold)\d(?=-seed)" if self.facts.own else r"(split[ _-]?)\d"
        return re.sub(place, r"\1*", name, flags=re.IGNORECASE)

    @property
    def weights(self) -> tuple[None, str]:
        """(None, what the tables call the weights): one row for the files of a method's splits."""
        name, pattern = self.facts.name, self._pattern
        return None, f"{name}, sha256 {self.facts.sha256[:8]}" if pattern == name else pattern

    @functools.cached_property
    def recipe(self) -> dict:
        """Precision and tiling decide how images are predicted: the published ones, or those of the weights' run."""
        known = self.spec.row in registry.method_class(self.spec.name).published
        experiment = config.load("published") if known and not self.facts.own else self.setup.config
        given = {} if known else {"precision": "fp32"}
        given |= {k: v for k, v in self.facts.recipe.items() if k in DECIDING}
        name = self.setup.dataset.partition("@")[0]
        return recipe.recipe_for(experiment, self.spec, given | dict(self.setup.overrides), name)

    def supports(self) -> tuple[bool, str]:
        """Nothing but the file is needed."""
        return True, ""

    def parts(self) -> dict:
        unused = ("recipe", "backbone", "seed")
        return {k: v for k, v in super().parts().items() if k not in unused} | {
            "kind": self.kind,
            "sha256": self.facts.sha256,
            "any_fold": self.any_fold and bool(self.misfit),
            "recipe": {k: self.recipe[k] for k in DECIDING},
        }

    def heads(self, data) -> tuple[int, int]:
        """No types where the file has none, tissues as in the file: the tissue head is not scored."""
        facts = self.facts
        classes = 0 if facts.classes == 0 else len(data.classes)
        return classes, len(data.tissues) if facts.tissues is None else facts.tissues

    def check(self) -> None:
        """Raises InputError when the file is not the one asked for; prepares and writes nothing."""
        source, facts = self.setup.source, self.facts
        if self.misfit and not self.any_fold:
            raise InputError(f"{facts.path}: {self.misfit} (or --any-fold, which the tables will say).")
        for what, found, expected in (
            ("types", facts.classes, len(source.classes)),
            # data sets of one's own list other tissues than PanNuke and are evaluated with its weights all the same
            ("tissues", facts.tissues if self.setup.dataset in ("pannuke", "conic") else None, len(source.tissues)),
        ):
            if found and found != expected:
                raise InputError(
                    f"{facts.path}: is {facts.title}, the dataset {self.setup.label} has {expected} {what}; give "
                    f"weights with {expected} {what}, or the dataset that these were trained on."
                )
        state, _ = recognise(facts.path)
        with torch.device("meta"):
            method = registry.build(self.spec, *self.heads(source))
        fitted(method, state, facts)

    def fill(self, method) -> None:
        fit.load_official(method, self.facts.path)

    def told(self) -> dict:
        facts, source = self.facts, self.setup.source
        said = remarks(facts, self.setup.label, source.mpp, len(source.tissues))
        if self.misfit:
            said.append(f"Evaluated all the same: {self.misfit.partition(';')[0]}.")
        network = registry.method_class(self.spec.name).backbone_of(self.spec.arguments) or "network"
        return {
            "kind": self.kind,
            "recipe": {},
            "backbone": {"name": network, "weights": self.weights[1], "file": facts.sha256[:12]},
            "file": {
                "tag": self.run.file,
                "name": facts.name,
                "sha256": facts.sha256,
                "layout": facts.layout,
                "arch": facts.arch,
                "split": facts.split,
                "remarks": said,
            },
        }


def official_cell(setup: Setup, path, method: str | None, fold: int, any_fold: bool = False) -> OfficialCell:
    """The cell of a file of weights, checked.

    Args:
        method: a method's name; without a row, the file's own row is taken, else `paper`. None: as the file says.

    Raises:
        InputError: an unreadable or unfit file, an unknown method, row or fold.
    """
    _, facts = recognise(path)
    text = method or facts.method
    if text is None:
        raise InputError(f"{path}: holds weights of a run, but not which; name the METHOD with its row and arguments.")
    name = text.partition("@")[0]
    if facts.method not in (None, name):
        registry.method_class(name)  # a misspelt name has a hint of its own
        raise InputError(f"{path}: is {facts.title}, but METHOD is {name}; use METHOD={facts.method}.")
    if "@" not in text:
        text = f"{name}@{facts.row or 'paper'}"
    (plain,) = cells(setup, [text], [fold], [0])
    cell = OfficialCell(setup, plain.spec, fold, 0, facts, any_fold)
    cell.check()
    return cell

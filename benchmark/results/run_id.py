"""The name of a run: dataset, method, kind, published split, and seed or file of weights."""

import re
from dataclasses import dataclass
from pathlib import Path

# kind of run -> what its method's folder ends in: trained here under the matched recipe or the method's own, or
# evaluated only, with weights that were published ("official") or that another run made ("evaluated"), or another
# tool's predictions, scored here ("imported")
KINDS = {
    "main": "",
    "published": "+published",
    "official": "+official",
    "evaluated": "+evaluated",
    "imported": "+imported",
}


FROM_FILE = ("official", "evaluated")


@dataclass(frozen=True)
class RunId:
    """Identity of one cell: its folder is `<dataset>/<method>[+<kind>]/fold<k>-seed<s>`, or `…/fold<k>-<file>`.

    Attributes:
        method: canonical name of the method with its settings, see `results.method_name`.
        split: published split, counted from 1; the folder and its config.json call it fold, as FOLD= does.
        kind: a key of KINDS.
        file: of the kinds in FROM_FILE: name of the file of weights, see `file_tag`; their seed is 0.
    """

    dataset: str
    method: str
    split: int
    seed: int
    kind: str = "main"
    file: str = ""

    def folder(self, results: Path) -> Path:
        """The run's folder below `results`."""
        last = self.file if self.kind in FROM_FILE else f"seed{self.seed}"
        return Path(results) / self.dataset / (self.method + KINDS.get(self.kind, "")) / f"fold{self.split}-{last}"

    @classmethod
    def of(cls, folder: Path) -> "RunId":
        """The identity in a run folder's path. Raises ValueError when it is no such path."""
        method = folder.parent.name
        kind = next((kind for kind, end in KINDS.items() if end and method.endswith(end)), "main")
        match = re.fullmatch(r"fold(\d+)-(.+)" if kind in FROM_FILE else r"fold(\d+)-seed(\d+)", folder.name)
        if not match:
            last = "<file>" if kind in FROM_FILE else "seed<s>"
            raise ValueError(f"'{folder}' is not a run folder: expected fold<k>-{last}")
        seed, file = (0, match[2]) if kind in FROM_FILE else (int(match[2]), "")
        return cls(folder.parent.parent.name, method.removesuffix(KINDS[kind]), int(match[1]), seed, kind, file)

    def __str__(self) -> str:
        kind = {
            "published": " (published recipe)",
            "official": f" (official weights {self.file})",
            "evaluated": f" (weights {self.file})",
            "imported": " (imported)",
        }.get(self.kind, "")
        seed = "" if self.kind in FROM_FILE else f" seed {self.seed}"
        return f"{self.dataset} {self.method}{kind} fold {self.split}{seed}"


def data_set(label: str) -> str:
    """Name of a data set without its arguments, from its name in results; "" for several that are joined by a plus."""
    return "" if "+" in label else label.partition("@")[0]


def is_drawn(label: str) -> bool:
    """Whether all images of a data set, by its name in results, are drawn."""
    return {part.partition("@")[0] for part in label.split("+")} == {"synthetic"}


def file_tag(name: str, sha256: str) -> str:
    """Name of a file of weights in a run's folder: its stem and 8 digits of its hash."""
    stem = re.sub(r"[^A-Za-z0-9._=,@+-]+", "_", re.sub(r"\.(pth|pt|tar|bin|ckpt|safetensors)$", "", name))[:100]
    return f"{stem}-{sha256[:8]}"

"""Where things lie. The only file that knows it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", ROOT / "results"))
REPORTS = Path(os.environ.get("BENCHMARK_REPORTS", ROOT / "reports"))
CACHE = Path(os.environ.get("BENCHMARK_CACHE", ROOT / "cache"))

PUBLISHED = "+published"


@dataclass(frozen=True)
class RunId:
    """Identity of one cell: its folder is `<dataset>/<method>[+published]/fold<k>-seed<s>`.

    Attributes:
        method: canonical method name, such as "cellvta@small".
        kind: "main" (matched recipe) or "published" (the method's own recipe).
    """

    dataset: str
    method: str
    fold: int
    seed: int
    kind: str = "main"

    def folder(self, results: Path) -> Path:
        """The run's folder below `results`."""
        method = self.method + (PUBLISHED if self.kind == "published" else "")
        return Path(results) / self.dataset / method / f"fold{self.fold}-seed{self.seed}"

    @classmethod
    def of(cls, folder: Path) -> "RunId":
        """The identity that a run folder's path spells. Raises ValueError when it spells none."""
        match = re.fullmatch(r"fold(\d+)-seed(\d+)", folder.name)
        if not match:
            raise ValueError(f"'{folder}' is not a run folder: expected fold<k>-seed<s>")
        method = folder.parent.name
        kind = "published" if method.endswith(PUBLISHED) else "main"
        return cls(folder.parent.parent.name, method.removesuffix(PUBLISHED), int(match[1]), int(match[2]), kind)

    def __str__(self) -> str:
        kind = " (published recipe)" if self.kind == "published" else ""
        return f"{self.dataset} {self.method}{kind} fold {self.fold} seed {self.seed}"

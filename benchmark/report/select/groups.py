"""Which runs may stand in one table: same dataset, kind of experiment and preset; a row per method."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.results.run import Run, scale_of

KINDS = {
    "main": "matched recipe",
    "published": "each method's published recipe",
    "official": "official weights, not trained here",
    "evaluated": "weights of other runs, not trained here",
    "imported": "predictions of other tools, scored here",
}


MOST = 12  # rows that a figure can tell apart


@dataclass
class Row:
    """One line of a table: a method with one backbone and one set of weights."""

    method: str
    backbone: tuple[str, str]
    runs: list[Run] = field(default_factory=list)
    label: str = ""

    @property
    def backbone_text(self) -> str:
        """Such as "tiny (random)"."""
        return f"{self.backbone[0]} ({shown_weights(self.backbone[1])})" if self.backbone[0] else "–"


@dataclass
class Group:
    """The rows of one table, with the folds and seeds that each is expected to have."""

    dataset: str
    kind: str
    scale: str
    splits: list[int]
    seeds: list[int]
    rows: list[Row]
    remarks: list[str] = field(default_factory=list)

    @property
    def expected(self) -> int:
        """Runs that a complete row has."""
        return len(self.splits) * len(self.seeds)

    @property
    def runs(self) -> list[Run]:
        """The runs of all rows."""
        return [run for row in self.rows for run in row.runs]

    @property
    def drawn(self) -> list[Row]:
        """Rows that figures of all rows show: with more than MOST of them, those that override no argument."""
        whole = [row for row in self.rows if "," not in row.method]
        return whole if whole and len(self.rows) > MOST else self.rows

    @property
    def title(self) -> str:
        """Dataset, kind of experiment and preset in words; nothing was trained by a preset where others predicted."""
        preset = "" if self.kind == "imported" else f", preset `{self.scale}`"
        return f"{self.dataset}, {KINDS.get(self.kind, 'experiment')} (`{self.kind}`){preset}"

    @property
    def folder(self) -> Path:
        """Where this group's tables go, below the reports folder."""
        return Path(self.dataset) / f"{self.kind}-{self.scale}"

    def names(self, key: str) -> list[str]:
        """Union over the runs of config[key] ("classes" or "tissues"), in order of first appearance."""
        return list(dict.fromkeys(str(name) for run in self.runs for name in run.config[key]))

    def notes(self) -> list[str]:
        """Sentences on what a reader must know before comparing the rows; empty when nothing is unusual."""
        out = list(self.remarks)
        for run in self.runs:
            if file := run.config.get("file"):
                said = " ".join(map(str, file.get("remarks") or []))
                sha = str(file.get("sha256"))[:12]
                out.append(f"{run.id.method}, fold {run.id.split}: {file.get('name')}, sha256 {sha}. {said}".strip())
        untyped = {(r.id.split, r.metrics.get("n_untyped"), r.metrics.get("n_images")) for r in self.runs}
        for split, n, total in sorted(u for u in untyped if u[1]):
            out.append(f"Fold {split}: {n} of {total} test images are untyped and left out of all that needs types.")
        if self.kind == "main":
            recipes = [_flat(r.config["recipe"]) for r in self.runs if r.config.get("recipe")]
            differ = sorted(k for k in set().union(*recipes) if len({r.get(k) for r in recipes}) > 1)
            if differ:
                out.append(f"Not matched: the runs' recipes differ in {', '.join(differ)}.")
            for what, key in (("precision", "precision"), ("number of processes", "processes")):
                found = {str(r.cost[key]) for r in self.runs if r.config.get("recipe") and r.cost.get(key) is not None}
                if len(found) > 1:
                    out.append(f"Not matched: the runs differ in {what} ({', '.join(sorted(found))}).")
            marks = {}
            for run in self.runs:
                backbone = run.config.get("backbone") or {}
                marks.setdefault(str(backbone.get("weights")), set()).add(str(backbone.get("file")))
            for weights, files in sorted(marks.items()):
                if len(files) > 1:
                    out.append(f"Not matched: the weights called {weights} were made {len(files)} times and differ.")
        for split in self.splits:
            told = [r.provenance.get("data_fingerprint") for r in self.runs if r.id.split == split]
            if len({str(t) for t in told if t is not None}) > 1:
                out.append(f"Not comparable: the runs of fold {split} read different versions of the data.")
        return out


def groups(
    runs: list[Run],
    dataset: str | None = None,
    kind: str | None = None,
    methods: list[str] | None = None,
    splits: list[int] | None = None,
    seeds: list[int] | None = None,
) -> list[Group]:
    """Sort runs into tables.

    Args:
        dataset, kind: only these; None takes all found.
        methods: canonical names of rows expected in their preset's table even when no run of theirs exists.
        splits, seeds: the expected ones, others are left out; None expects all found in the table.
    """
    keep = [
        r
        for r in runs
        if dataset in (None, r.id.dataset)
        and kind in (None, r.id.kind)
        and (splits is None or r.id.split in splits)
        and (seeds is None or r.id.seed in seeds)
    ]
    keys = {(r.id.dataset, r.id.kind, r.scale) for r in keep}
    scales = {scale_of(m) for m in methods or []}
    if dataset is not None:
        keys |= {(dataset, kind or "main", scale) for scale in scales}
    out = []
    for key in sorted(keys):
        members = [r for r in keep if (r.id.dataset, r.id.kind, r.scale) == key]
        rows = _rows(members, [m for m in methods or [] if scale_of(m) == key[2]], methods or [])
        all_splits = sorted(splits if splits is not None else {r.id.split for r in members}) or [1]
        all_seeds = sorted(seeds if seeds is not None else {r.id.seed for r in members}) or [0]
        out.append(Group(*key, all_splits, all_seeds, rows))
    return out


def _rows(members: list[Run], expected: list[str], known: list[str]) -> list[Row]:
    """Expected methods in their order, then others; one row per method and set of weights.

    Args:
        known: the experiment's methods at any preset; others stand in the order of these, then by name.
    """
    order = {m: i for i, m in reversed(list(enumerate(k.partition("@")[0] for k in known)))}
    others = sorted({r.id.method for r in members}, key=lambda m: (order.get(m.partition("@")[0], len(known)), m))
    names = list(dict.fromkeys([*expected, *others]))
    rows = []
    for name in names:
        own = [r for r in members if r.id.method == name]
        for backbone in sorted({r.backbone for r in own}) or [("", "")]:
            rows.append(Row(name, backbone, [r for r in own if r.backbone == backbone]))
    often = Counter(row.method for row in rows)
    for row in rows:
        row.label = row.method.replace(f"@{scale_of(row.method)}", "", 1)
        if often[row.method] > 1:
            row.label += f" ({shown_weights(row.backbone[1]) or 'no backbone'})"
    return rows


def shown_weights(weights: str) -> str:
    """Weights as tables name them: "synthetic pretext:bef3f60687d861b7" -> "synthetic pretext:bef3f6"."""
    name, mark, digest = weights.rpartition(":")
    return f"{name}:{digest[:6]}" if mark and re.fullmatch(r"[0-9a-f]{12,}", digest) else weights


def _flat(nested: dict, path: str = "") -> dict:
    out = {}
    for key, value in nested.items():
        out |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": repr(value)}
    return out


def overrides(row: Row) -> list[str]:
    """The arguments that the row's name changes, such as ["points=8"]."""
    return row.method.partition("@")[2].split(",")[1:]

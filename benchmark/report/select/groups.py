"""Groups of runs that may stand in one table: same dataset, kind of experiment and preset; a row per method."""

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
    """One row of a table: a method with one backbone and one set of weights.

    Attributes:
        method: canonical name, such as "cellvta@small,points=8".
        backbone: (name, weights) of the encoder; ("", "") without one.
        runs: one per split and seed; empty for a method that is expected but has not run.
        label: what tables and figures call the row.
    """

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
    """The rows of one table.

    Attributes:
        dataset, kind, scale: what all runs have in common; scale is the preset.
        splits, seeds: those that each row should have.
        remarks: sentences to print below every table.
    """

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
        """Of this group's tables, relative to the folder of reports."""
        return Path(self.dataset) / f"{self.kind}-{self.scale}"

    def names(self, key: str) -> list[str]:
        """Union over the runs of config[key] ("classes" or "tissues"), in order of first appearance."""
        return list(dict.fromkeys(str(name) for run in self.runs for name in run.config[key]))

    def notes(self) -> list[str]:
        """Sentences on what a reader must know before comparing the rows; empty when nothing is unusual."""
        out = list(self.remarks)
        for run in self.runs:
            if file := run.config.get("file"):
                remarks = " ".join(map(str, file.get("remarks") or []))
                sha = str(file.get("sha256"))[:12]
                out.append(f"{run.id.method}, fold {run.id.split}: {file.get('name')}, sha256 {sha}. {remarks}".strip())
            for remark in (run.config.get("imported") or {}).get("remarks") or []:
                out.append(f"{run.id.method}, fold {run.id.split}, seed {run.id.seed}: {remark}")
        untyped = {(r.id.split, r.metrics.get("n_untyped"), r.metrics.get("n_images")) for r in self.runs}
        for split, n, total in sorted(counts for counts in untyped if counts[1]):
            out.append(f"Fold {split}: {n} of {total} test images are untyped and left out of all that needs types.")
        if self.kind == "main":
            out += self._unmatched()
        for split in self.splits:
            fingerprints = [run.provenance.get("data_fingerprint") for run in self.runs if run.id.split == split]
            if len({str(fingerprint) for fingerprint in fingerprints if fingerprint is not None}) > 1:
                out.append(f"Not comparable: the runs of fold {split} read different versions of the data.")
        return out

    def _unmatched(self) -> list[str]:
        """Sentences on what differs between runs that should share a recipe."""
        out = []
        trained = [run for run in self.runs if run.config.get("recipe")]
        recipes = [_flat(run.config["recipe"]) for run in trained]
        differ = sorted(key for key in set().union(*recipes) if len({recipe.get(key) for recipe in recipes}) > 1)
        if differ:
            out.append(f"Not matched: the runs' recipes differ in {', '.join(differ)}.")
        for name, key in (("precision", "precision"), ("number of processes", "processes")):
            values = {str(run.cost[key]) for run in trained if run.cost.get(key) is not None}
            if len(values) > 1:
                out.append(f"Not matched: the runs differ in {name} ({', '.join(sorted(values))}).")
        files_of: dict[str, set[str]] = {}
        for run in self.runs:
            backbone = run.config.get("backbone") or {}
            files_of.setdefault(str(backbone.get("weights")), set()).add(str(backbone.get("file")))
        for weights, files in sorted(files_of.items()):
            if len(files) > 1:
                out.append(f"Not matched: the weights called {weights} were made {len(files)} times and differ.")
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
        dataset, kind: only these; None takes all.
        methods: canonical names of rows expected in their preset's table even when no run of theirs exists.
        splits, seeds: the expected ones, others are left out; None expects all that the table's runs have.
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
        expected_splits = sorted(splits if splits is not None else {r.id.split for r in members}) or [1]
        expected_seeds = sorted(seeds if seeds is not None else {r.id.seed for r in members}) or [0]
        out.append(Group(*key, expected_splits, expected_seeds, rows))
    return out


def _rows(members: list[Run], expected: list[str], known: list[str]) -> list[Row]:
    """Expected methods in their order, then others; one row per method and set of weights.

    Args:
        known: the experiment's methods at any preset; others stand in the order of these, then by name.
    """
    known_names = [method.partition("@")[0] for method in known]

    def place(method: str) -> tuple[int, str]:
        name = method.partition("@")[0]
        return known_names.index(name) if name in known_names else len(known_names), method

    others = sorted({run.id.method for run in members}, key=place)
    rows = []
    for name in dict.fromkeys([*expected, *others]):
        own = [r for r in members if r.id.method == name]
        for backbone in sorted({r.backbone for r in own}) or [("", "")]:
            rows.append(Row(name, backbone, [r for r in own if r.backbone == backbone]))
    counts = Counter(row.method for row in rows)
    for row in rows:
        row.label = row.method.replace(f"@{scale_of(row.method)}", "", 1)
        if counts[row.method] > 1:
            row.label += f" ({shown_weights(row.backbone[1]) or 'no backbone'})"
    return rows


def shown_weights(weights: str) -> str:
    """Weights as tables name them: "synthetic pretext:bef3f60687d861b7" -> "synthetic pretext:bef3f6"."""
    name, mark, digest = weights.rpartition(":")
    return f"{name}:{digest[:6]}" if mark and re.fullmatch(r"[0-9a-f]{12,}", digest) else weights


def _flat(nested: dict, path: str = "") -> dict:
    """Values of nested dicts, as `repr` writes them, by dotted path."""
    out = {}
    for key, value in nested.items():
        out |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": repr(value)}
    return out


def overrides(row: Row) -> list[str]:
    """Arguments that the name of the row's method overrides, such as ["points=8"]."""
    return row.method.partition("@")[2].split(",")[1:]

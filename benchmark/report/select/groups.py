"""Groups of runs that may stand in one table: same dataset, kind of experiment and preset; a row per method."""

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmark.results.method_name import parts
from benchmark.results.run import Run, scale_of
from benchmark.runtime.counts import part_of
from benchmark.runtime.plugins import words_of

KINDS = {
    "main": "matched recipe",
    "published": "each method's published recipe",
    "official": "official weights, not trained here",
    "evaluated": "weights of other runs, not trained here",
    "imported": "predictions of other tools, scored here",
}


MOST = 12  # rows that a figure can tell apart
CLAIM = ("cellvta", "decoder_only")  # the paper's claim: the adapter against training the decoder alone


@dataclass
class Row:
    """One row of a table: a method with its settings, one backbone and one set of weights.

    Attributes:
        method: canonical name with its settings, such as "cellvta@small,points=8,recipe.clip=0.5".
        backbone: (name, weights) of the encoder; ("", "") without one.
        runs: one per split and seed; empty for a method that is expected but has not run.
        label: what figures and tables without a column of settings call the row; no two rows of a group share it.
        name: the same without settings, for tables that have the column.
        spec: `method@row` with its arguments; where none is given, as the method's name has it.
        settings: what the user changed of the recipe that all rows share, such as "optimiser.lr 0.0005"; likewise.
    """

    method: str
    backbone: tuple[str, str]
    runs: list[Run] = field(default_factory=list)
    label: str = ""
    name: str = ""
    spec: str = ""
    settings: str = ""

    def __post_init__(self) -> None:
        spec, words = parts(self.method)
        self.spec = self.spec or spec
        texts = [word.removeprefix("recipe.").replace("=", " ", 1) for word in words if not word.startswith("weights=")]
        self.settings = self.settings or ", ".join(texts)

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
        asked: canonical names of the experiment's methods at this scale; empty where none was named.
    """

    dataset: str
    kind: str
    scale: str
    splits: list[int]
    seeds: list[int]
    rows: list[Row]
    remarks: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

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
        """Rows that figures of all rows show: with more than MOST of them, those without arguments or settings.

        Where the experiment names rows with such, it is about these: they are drawn, if they were run and are not too
        many.
        """
        if len(self.rows) <= MOST:
            return self.rows
        if self.draws_asked:
            return self._named
        whole = [row for row in self.rows if not overrides(row)]
        return [row for row in whole if not row.settings] or whole or self.rows

    @property
    def draws_asked(self) -> bool:
        """Whether `drawn` of too many rows are those that the experiment names."""
        run = any(row.runs for row in self._named)
        changed = any(overrides(row) or row.settings for row in self._named)
        return run and changed and len(self._named) <= MOST < len(self.rows)

    @property
    def _named(self) -> list[Row]:
        return [row for row in self.rows if row.method in self.asked]

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
        return [*self.remarks, *self._notes_of_runs]

    @cached_property
    def _notes_of_runs(self) -> list[str]:
        out = []
        for run in self.runs:
            if file := run.config.get("file"):
                remarks = " ".join(map(str, file.get("remarks") or []))
                sha = str(file.get("sha256"))[:12]
                out.append(f"{run.id.method}, fold {run.id.split}: {file.get('name')}, sha256 {sha}. {remarks}".strip())
            for remark in (run.config.get("imported") or {}).get("remarks") or []:
                out.append(f"{run.id.method}, fold {run.id.split}, seed {run.id.seed}: {remark}")
        untyped = {(r.id.split, r.metrics.get("n_untyped"), r.metrics.get("n_images")) for r in self.runs}
        for split, n, total in sorted(counts for counts in untyped if counts[1]):
            out.append(
                f"Split {split}: {part_of(n, total, 'test image')} untyped and left out of all that needs types."
            )
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
        recipes = [(_flat(run.config["recipe"]), run.config.get("settings") or {}) for run in trained]
        differ = []
        for key in sorted(set().union(*(recipe for recipe, _ in recipes))):
            # a value that is a setting of its run stands in the column of settings
            if len({recipe.get(key) for recipe, settings in recipes if f"recipe.{key}" not in settings}) > 1:
                differ.append(key)
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
        asked = [m for m in methods or [] if scale_of(m) == key[2]]
        rows = _rows(members, asked, methods or [])
        expected_splits = sorted(splits if splits is not None else {r.id.split for r in members}) or [1]
        expected_seeds = sorted(seeds if seeds is not None else {r.id.seed for r in members}) or [0]
        out.append(Group(*key, expected_splits, expected_seeds, rows, asked=asked))
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
        for backbone, of_row in _by_weights(own) or [(("", ""), [])]:
            row = Row(name, backbone, of_row)
            if row.runs:  # a hash in its name hides nothing of these
                row.spec, row.settings = row.runs[0].spec, row.runs[0].settings
            rows.append(row)
    for row in rows:
        row.name = row.label = parts(row.method)[0].replace(f"@{scale_of(row.method)}", "", 1)
    alike = Counter((row.name, row.settings) for row in rows)
    for row in rows:
        if alike[row.name, row.settings] > 1:
            row.label += f" ({shown_weights(row.backbone[1]) or 'no backbone'})"
        row.name = row.label
        if row.settings:
            row.label += f" ({row.settings})"
    alike_labels = Counter(row.label for row in rows)
    for row in rows:
        if alike_labels[row.label] > 1:  # what differs is hidden in a hash
            row.name = row.label = f"{row.label} ({row.method})"
    return rows


def _by_weights(runs: list[Run]) -> list[tuple[tuple[str, str], list[Run]]]:
    """(backbone, its runs), sorted; files of one name of which two were evaluated on a split are apart."""
    out = []
    for backbone in sorted({run.backbone for run in runs}):
        own = [run for run in runs if run.backbone == backbone]
        if len({(run.id.split, run.id.seed) for run in own}) == len(own):
            out.append((backbone, own))
            continue
        for file in dict.fromkeys(run.id.file for run in own):
            of_file = [run for run in own if run.id.file == file]
            out.append(((backbone[0], f"{backbone[1]}, {file}" if file else backbone[1]), of_file))
    return out


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
    """Arguments that the row's method overrides, such as ["points=8"]."""
    return words_of(row.spec.partition("@")[2])[1:]


def variants(group: Group, full: Row) -> list[Row]:
    """Rows that override arguments of another row and are like it in all else: settings, backbone and weights."""
    same = [row for row in group.rows if (row.settings, row.backbone) == (full.settings, full.backbone)]
    return [row for row in same if overrides(row) and row.spec.startswith(f"{full.spec},")]


def claimed(group: Group) -> tuple[Row, Row] | None:
    """The two rows with runs on which the paper's claim can be tested: CLAIM's methods as they are, on one backbone.

    Those that the experiment names, where it names one of each: their settings, such as the learning rate of each, are
    then its choice. Else the first two that are alike in their settings too.
    """
    whole = [row for row in group.rows if row.runs and not overrides(row)]
    of_name = [[row for row in whole if row.method.partition("@")[0] == name] for name in CLAIM]
    named = [[row for row in rows if row.method in group.asked] for rows in of_name]
    if all(len(rows) == 1 for rows in named) and named[0][0].backbone == named[1][0].backbone:
        return named[0][0], named[1][0]
    for adapter in of_name[0]:
        for other in of_name[1]:
            if (adapter.settings, adapter.backbone) == (other.settings, other.backbone):
                return adapter, other
    return None

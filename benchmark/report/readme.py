"""The README's results: a committed reference run on the embedded data, rebuilt from its records."""

import re
import shutil
from pathlib import Path

from benchmark.report.render.table import Block, Table, markdown, write_file
from benchmark.report.select.groups import Group, groups
from benchmark.report.write import group_tables
from benchmark.results.collect import runs
from benchmark.results.kept import keep as store
from benchmark.results.kept import unpacked
from benchmark.results.run import Run, words
from benchmark.runtime.counts import counted
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic, atomic_folder

MARKS = ("<!-- results -->", "<!-- /results -->")
SHOWN = ("method", "bPQ", "95 %", "mPQ", "DQ", "SQ", "detection F1")
COSTS = ("params (M)", "trainable (M)", "GFLOPs", "images/s", "peak memory (MiB)", "training (min)")
FIGURES = {
    "pq_by_size": "PQ against nucleus diameter, per method",
    "examples": "Images chosen by rule: the image, its truth, each method's hits, false positives and misses",
}
SHOWN_AS = {"pq_by_size": "pq_by_size.png", "examples": "examples.jpg"}
WIDE = 1500  # px; the examples in the README
LEARNT = 0.1  # F1 above which a type is recognised at all


def keep(results: Path, reports: Path, out: Path, dataset: str = "synthetic", preset: str = "small") -> list[Run]:
    """Keep the complete `main` runs of a dataset and preset, with their tables and two figures, in `out`.

    Raises:
        InputError: no such runs, damaged ones, runs of several commits or of uncommitted code, or no report of them.
    """
    kept = [
        run
        for run in runs(results)
        if (run.id.dataset, run.id.kind, run.scale) == (dataset, "main", preset) and "," not in run.id.method
    ]
    if not kept:
        raise InputError(f"{results} holds no complete run of {dataset} at {preset}; `make ablation` makes them.")
    commits = {str(run.provenance.get("commit")) for run in kept}
    if len(commits) > 1 or any(run.provenance.get("dirty") for run in kept):
        raise InputError(
            f"The runs in {results} are of {len(commits)} commits or of uncommitted code; expected one commit. "
            "Commit, delete them and run `make ablation` again."
        )
    report = reports / dataset / f"main-{preset}"
    missing = [name for name in FIGURES if not (report / f"{name}.png").is_file()]
    if missing:
        raise InputError(f"{report} lacks {missing[0]}.png; `make report` makes it.")
    with atomic_folder(out) as new:  # what is there stays until all of the new is
        list(store(kept, new / "runs"))
        for path in sorted(report.glob("*.csv")):
            shutil.copyfile(path, new / path.name)
        shutil.copyfile(report / "pq_by_size.png", new / "pq_by_size.png")
        _smaller(report / "examples.png", new / "examples.jpg")
    return kept


def section(out: Path, methods: list[str], link: str) -> str:
    """Markdown between the README's marks, from what `keep` stored.

    Args:
        methods: canonical names in the order of the experiment.
        link: path of `out` relative to the README.
    """
    with unpacked(out / "runs") as results:
        (group,) = groups(runs(results), methods=methods)
        tabled = group_tables(group, ["cellvit"])
    cost = next(t for t in tabled.rest if t.name == "cost")
    joined = _joined(tabled.main[0], cost)
    _, rows = markdown(joined).split("\n\n", 1)  # without the caption
    lines = [_description(group), "", rows.rstrip(), ""]
    for stem, caption in FIGURES.items():
        lines += [f"![{caption}]({link}/{SHOWN_AS[stem]})", ""]
    lines.append(f"Records, every table as csv and the figures' csv: [{link}]({link}); `make reference` renews them.")
    return "\n".join(lines)


def put(page: Path, text: str, marks: tuple[str, str] = MARKS) -> None:
    """Replace what stands between the marks of a page. Raises InputError when they are missing."""
    content = page.read_text(encoding="utf-8")
    if not all(mark in content for mark in marks):
        raise InputError(f"{page} lacks the marks {' and '.join(marks)}; put them where the results should stand.")
    marked = f"{marks[0]}\n{text}\n{marks[1]}"
    with atomic(page, "w") as handle:
        handle.write(re.sub(f"{marks[0]}.*?{marks[1]}", lambda _: marked, content, flags=re.S))


def between(page: Path, marks: tuple[str, str] = MARKS) -> str:
    """The text between the marks."""
    return page.read_text(encoding="utf-8").split(marks[0])[1].split(marks[1])[0].strip("\n")


def _joined(main: Table, cost: Table) -> Table:
    """One table of the columns SHOWN of the main table and COSTS of the cost table."""
    (scores,), (costs,) = main.blocks, cost.blocks
    # "95 %" stands twice in the header; the first is of bPQ
    shown = [scores.rows[0].index(name) for name in SHOWN]
    added = [costs.rows[0].index(name) for name in COSTS]
    lines = []
    for of_scores, of_costs in zip(scores.rows, costs.rows):
        lines.append([of_scores[j] for j in shown] + [of_costs[j] for j in added])
    ranks = {(i, shown.index(j)): rank for (i, j), rank in scores.ranks.items() if j in shown}
    return Table("readme", "", [], [Block(lines, ranks=ranks)])


def _description(group: Group) -> str:
    """What the table cannot show; what was run, when, on which machine."""
    first = group.runs[0]
    finished = max(str(r.provenance.get("finished"))[:10] for r in group.runs)
    minutes = sum(r.cost.get("train_seconds", 0) for r in group.runs) / 60
    version = first.metrics["protocols"]["cellvit"].get("version")
    return (
        f"This table ranks how fast the methods learn, not how good they are: {minutes / len(group.rows):.1f} minutes "
        f"of training a row, one split, one seed{_unlearnt(group)}.\n\n"
        f"`make ablation` at commit {str(first.provenance.get('commit'))[:10]}, {finished}, on "
        f"{machine(first.provenance.get('hardware'))}: split {group.splits[0]}, seed {group.seeds[0]}, "
        f"{first.metrics['n_images']} test images; {minutes:.1f} minutes of training for the {len(group.rows)} rows. "
        f"Protocol `cellvit` version {version}, matched recipe, preset `{group.scale}`."
    )


def _unlearnt(group: Group) -> str:
    """A clause on the types that no method recognises: whose detection F1 is nowhere above LEARNT."""
    best: dict[str, float] = {}
    for run in group.runs:
        for name in run.config["classes"]:
            value = run.metrics["protocols"]["cellvit"].get(f"F1_{name}")
            best[name] = max(best.get(name, 0.0), value or 0.0)
    lacking = [name for name, value in best.items() if value <= LEARNT]
    return f"; no method recognises {' or '.join(lacking)} nuclei yet (F1 at most {LEARNT})" if lacking else ""


def machine(hardware) -> str:
    """Such as "2 cores of an AMD EPYC with 23.5 GB, no GPU"."""
    if not isinstance(hardware, dict):
        return words(hardware)
    gpu = hardware.get("gpu") or "no GPU"
    cores = counted(hardware.get("cores", 0), "core")
    return f"{cores} of an {hardware.get('cpu')} with {hardware.get('memory_gb')} GB, {gpu}"


def _smaller(source: Path, target: Path) -> None:
    """Write a picture as JPEG, WIDE px wide."""
    import io

    from PIL import Image

    with Image.open(source) as image:
        picture = image.convert("RGB")
    picture = picture.resize((WIDE, round(WIDE * picture.height / picture.width)), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=88)
    write_file(target, content.getvalue())

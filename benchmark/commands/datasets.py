"""`datasets`: the data sets that can be read, what is known of them, and what of each is prepared here."""

from collections import Counter
from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.counts import counted

HELP = (
    "Every data set that can be read: images, nuclei, types, splits, licence, where to get it, what is prepared here."
)
EXAMPLE = "--format csv"

NOTES = (
    "Images and nuclei as published; – where the publication's figure is not known here. `prepare` counts what lies on "
    "disk. mpp in µm per pixel.",
    "Schemes are other classes for the same nuclei: DATASET=consep@classes=4, or a TOML file of your own in place of "
    "the 4 (docs/datasets/README.md).",
)


def arguments(parser) -> None:
    shared.cache(parser)
    shared.form(parser, "md", "csv")


def run(options) -> int:
    from benchmark.report.render.table import Block, Table, to_csv
    from benchmark.report.render.terminal import shown
    from benchmark.runtime import terminal

    records = _records(options.cache)
    if options.format == "csv":
        print(to_csv(records), end="")
        return 0
    header = ["dataset", "images", "nuclei", "types", "schemes", "splits", "mpp", "licence", "prepared here"]
    lines = [header, *([_text(record[key]) for key in header] for record in records)]
    notes = [f"{r['dataset']}: {r['title']}, {r['citation']}. {r['home']}" for r in records if r["citation"]]
    importance = [header.index(key) for key in ("dataset", "images", "types", "licence", "splits", "prepared here")]
    block = Block(lines, left=len(header), importance=importance)
    table = Table("datasets", "Data sets that can be read", [*NOTES, *notes], [block])
    print(shown(table, None if options.format else terminal.room()), end="")
    return 0


def _records(cache: Path) -> list[dict]:
    """A row for each registered data set, then one for each of the user's own that is prepared."""
    from benchmark.data import facts
    from benchmark.data.sources import class_map
    from benchmark.runtime import plugins

    prepared = _prepared(cache)
    registered = plugins.declared("benchmark.data.sources") or set()
    names = [*sorted(registered | {*facts.names()}), *sorted(set(prepared) - registered)]
    rows = []
    for name in names:
        known = facts.of(name) if name in facts.names() else None
        rows.append(
            {
                "dataset": name,
                "title": known.title if known else "your own data",
                "images": " + ".join(map(str, known.images.values())) if known else "",
                "nuclei": known.nuclei if known else None,
                "types": known.types if known else None,
                "schemes": ", ".join(class_map.known(name)),
                "splits": known.splits if known else "",
                "mpp": known.mpp if known else None,
                "licence": known.licence_name or known.licence if known else "yours",
                "prepared here": prepared.get(name, ""),
                "citation": known.citation if known else "",
                "home": known.home if known else "",
            }
        )
    return rows


def _prepared(cache: Path) -> dict[str, str]:
    """Data set, without its arguments -> images and nuclei of its folds in the cache, in words, for each scheme.

    A fold that was prepared from different files lies there as often; each counts, and that is said.
    """
    from benchmark.data.store.fold import CachedFold

    cached: dict[str, dict[str, list[CachedFold]]] = {}
    for path in sorted(cache.glob("*/meta.json")):
        try:
            fold = CachedFold(path.parent)
        except ValueError:  # half-written or damaged: it would be prepared again
            continue
        name, _, scheme = fold.meta["dataset"].partition("@")
        cached.setdefault(name, {}).setdefault(scheme, []).append(fold)
    return {
        name: "; ".join(f"{scheme}: {_total(folds)}" if scheme else _total(folds) for scheme, folds in schemes.items())
        for name, schemes in cached.items()
    }


def _total(folds: list) -> str:
    """Of cached folds, in words."""
    n, images, nuclei = len(folds), sum(map(len, folds)), sum(len(fold.types) for fold in folds)
    versions = max(Counter(fold.meta["fold"] for fold in folds).values())
    several = f", of {versions} versions of the files" if versions > 1 else ""
    return f"{counted(n, 'fold')}, {counted(images, 'image')}, {nuclei} nuclei{several}"


def _text(value) -> str:
    return "–" if value in (None, "") else f"{value:,}" if isinstance(value, int) else str(value)

"""Tables of differences: significance between methods, adapter components, tuning strategies."""

import math

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row, overrides
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import FEWEST, Comparison, compare, holm, interval
from benchmark.report.stats.summary import summarise

TESTED = ("bPQ", "mPQ")
NAMED = 6  # differences that the conclusion spells out
TUNED = ("decoder_only", "full_finetune", "cellvit", "cellvta")


def comparisons(group: Group, observed: Observed, pairs: list[tuple[Row, Row]]) -> list[Comparison]:
    """All comparisons of the pairs in TESTED metrics that can be made."""
    found = (compare(observed, a, b, metric) for metric in TESTED for a, b in pairs)
    return [c for c in found if c is not None]


def significance_table(group: Group, observed: Observed, caption: str, notes: list[str]) -> Table | None:
    """Every pair of rows in bPQ and mPQ: difference, interval, Wilcoxon with Holm's correction, effect sizes.

    Variants (rows with overrides) stand in `component_table` instead: each pair more weakens all tests.
    """
    rows = [row for row in group.rows if observed.runs(row) and not overrides(row)]
    found = comparisons(group, observed, [(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :]])
    if not found:
        return None
    table = Table("significance", f"Paired comparisons. {caption}", [*reading(observed, len(found)), *notes])
    adjusted = holm([c.p for c in found])
    for metric in TESTED:
        cells = [["a", "b", "a − b [95 %]", "p (Holm)", "rank-biserial", "d_z", "a better in"]]
        for c, p in zip(found, adjusted):
            if c.metric == metric:
                share = f"{c.better:.0%}" if not math.isnan(c.better) else "–"
                effect = [_number(c.rank_biserial), _number(c.dz)]
                cells.append([c.a, c.b, c.difference.text(sign=True), p_text(p), *effect, share])
                table.records.append(record(group, c) | {"p_holm": p})
        if len(cells) > 1:
            table.blocks.append(Block(cells, left=2, title=metric))
    table.says = conclusion(found, adjusted, observed.sources)
    return table


def component_table(group: Group, observed: Observed, caption: str, notes: list[str]) -> Table | None:
    """Variants of one method as differences to its full model (the row without overrides); None without any."""
    table = Table("components", f"Differences to the full model. {caption}", notes)
    for full in [row for row in group.rows if not overrides(row)]:
        variants = [r for r in group.rows if r.method.startswith(f"{full.method},") and r.backbone == full.backbone]
        cells = [["variant", "bPQ", *(f"Δ {m} [95 %]" for m in TESTED), "params (M)", "trainable (M)"]]
        for row in variants:
            line = [", ".join(overrides(row)), interval(observed, row, "bPQ").text()]
            for metric in TESTED:
                c = compare(observed, row, full, metric)
                line.append(c.difference.text(sign=True) if c else "–")
                if c:
                    table.records.append(record(group, c) | {"variant": ",".join(overrides(row))})
            cells.append(line + [_cost(row, key) for key in ("params", "trainable")])
        if variants:
            whole = [interval(observed, full, "bPQ").text(), "–", "–"]
            cells.insert(1, [f"{full.label} (full)", *whole, *(_cost(full, k) for k in ("params", "trainable"))])
            table.blocks.append(Block(cells, title=full.label))
    if not table.records:
        return None
    counted = "The intervals of this table are not corrected for their number: with many variants some miss by chance."
    table.notes = [reading(observed, 0)[0], counted, *table.notes]
    return table


def tuning_table(group: Group, observed: Observed, caption: str, notes: list[str]) -> Table | None:
    """What is trained, against accuracy; None unless two strategies are there."""
    cells, records = [["strategy", "method", "bPQ [95 %]", "mPQ [95 %]", "trainable (M)", "of params"]], []
    for row in group.rows:
        tune = next((r.config.get("arguments", {}).get("tune") for r in row.runs), None)
        others = [o for o in overrides(row) if not o.startswith(("tune=", "lora"))]
        if row.method.partition("@")[0] not in TUNED or tune is None or others:
            continue
        scores = {m: interval(observed, row, m) for m in TESTED}
        params, trainable = (summarise((r.cost.get(k) for r in row.runs), 1).mean for k in ("params", "trainable"))
        share = f"{trainable / params:.1%}" if params and not math.isnan(params) else "–"
        cells.append([str(tune), row.label, *(s.text() for s in scores.values()), _cost(row, "trainable"), share])
        values = {f"{m}{part}": getattr(s, at) for m, s in scores.items() for part, at in PARTS.items()}
        records.append({"method": row.method, "tune": tune, **values, "params": params, "trainable": trainable})
    if len({r["tune"] for r in records}) < 2:
        return None
    told = [reading(observed, 0)[0], STRATEGIES, *notes]
    return Table("tuning", f"Tuning strategies. {caption}", told, [Block(cells, left=2)], records)


STRATEGIES = (
    "Strategies: decoder trains the decoder alone, adapter the adapter and the decoder, lora low-rank updates of the "
    "ViT and the decoder, full everything, staged the decoder first and then everything. `of params`: share trained."
)
PARTS = {"": "value", "_low": "low", "_high": "high"}


def reading(observed: Observed, tests: int) -> list[str]:
    """What the intervals and the tests are over."""
    unit = "source images" if observed.sources else "test images (the data name no source image)"
    out = [
        f"Intervals: percentile bootstrap over {len(observed.clusters)} {unit}, 2000 resamples, the same for all "
        f"rows; folds and seeds are averaged within a resample, never taken for independent replicates; no interval "
        f"below {FEWEST}."
    ]
    if tests:
        out.append(
            f"p: Wilcoxon signed-rank over the same units, Holm-corrected over all {tests} tests of this table. "
            "Rank-biserial: 1 when a is better everywhere, −1 when b is. d_z: mean over sd of the differences."
        )
    return out


def conclusion(found: list[Comparison], adjusted: list[float], sources: bool) -> str:
    """What the tests allow to say, in sentences: how many differences hold, and the larger ones in bPQ by name.

    Args:
        sources: whether the tests' units are source images.
    """
    known = [(c, p) for c, p in zip(found, adjusted) if not math.isnan(p)]
    if not known:
        return "Too few independent units for any test: nothing may be concluded from these differences."
    firm = [c for c, p in known if p < 0.05 and (c.difference.low > 0 or c.difference.high < 0)]
    said = f"{len(firm)} of {len(known)} differences hold at the 5 % level after correction, with an interval off zero."
    named = sorted((c for c in firm if c.metric == TESTED[0]), key=lambda c: -abs(c.difference.value))
    pairs = [(c.a, c.b) if c.difference.value > 0 else (c.b, c.a) for c in named]
    told = [f"{a} above {b} ({abs(c.difference.value):.3f})" for c, (a, b) in zip(named, pairs)]
    if told:
        more = f", and {len(told) - NAMED} more" if len(told) > NAMED else ""
        said += f" In {TESTED[0]}, largest first: {', '.join(told[:NAMED])}{more}."
    units = "source images" if sources else "test images"
    return (
        f"{said} This holds for other {units} like these, given these trained networks; what another seed or another "
        "training set would give is not tested."
    )


def record(group: Group, c: Comparison) -> dict:
    """A csv line of a comparison."""
    return {
        "dataset": group.dataset,
        "kind": group.kind,
        "preset": group.scale,
        "metric": c.metric,
        "a": c.a,
        "b": c.b,
        "difference": c.difference.value,
        "low": c.difference.low,
        "high": c.difference.high,
        "clusters": c.difference.clusters,
        "runs": c.runs,
        "p": c.p,
        "rank_biserial": c.rank_biserial,
        "dz": c.dz,
        "better": c.better,
    }


def p_text(p: float) -> str:
    """Such as "0.012", "< 0.001" or "–"."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}"


def _cost(row: Row, key: str) -> str:
    value = summarise((r.cost.get(key) for r in row.runs), 1).mean
    return "–" if math.isnan(value) else f"{value * 1e-6:.2f}"

"""Tables of differences: significance between methods, adapter components, tuning strategies."""

import math
from itertools import combinations

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row, overrides, variants
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import FEWEST, Comparison, compare, compare_pairs, holm, interval
from benchmark.report.stats.summary import summarise

TESTED = ("bPQ", "mPQ")
NAMED = 6  # differences that the conclusion names
TUNED = ("decoder_only", "full_finetune", "cellvit", "cellvta")
STRATEGIES = (
    "Strategies: decoder trains the decoder alone, adapter the adapter and the decoder, lora low-rank updates of the "
    "ViT and the decoder, full everything, staged the decoder first and then everything. `of params`: share trained."
)


def significance_table(group: Group, observed: Observed, caption: str, notes: list[str]) -> Table | None:
    """Every pair of rows in bPQ and mPQ: difference, interval, Wilcoxon with Holm's correction, effect sizes.

    Variants (rows with overridden arguments) stand in `component_table` instead: each pair more weakens all tests.
    """
    rows = [row for row in group.rows if observed.runs(row) and not overrides(row)]
    pairs = list(combinations(rows, 2))
    tests = [test for metric in TESTED for test in compare_pairs(observed, pairs, metric) if test is not None]
    if not tests:
        return None
    table = Table("significance", f"Paired comparisons. {caption}", [*reading(observed, len(tests)), *notes])
    adjusted = holm([c.p for c in tests])
    for metric in TESTED:
        lines = [["a", "b", "a − b [95 %]", "p (Holm)", "rank-biserial", "d_z", "a better in"]]
        for c, p in zip(tests, adjusted):
            if c.metric == metric:
                share = f"{c.better:.0%}" if not math.isnan(c.better) else "–"
                effect = [_number(c.rank_biserial), _number(c.dz)]
                lines.append([c.a, c.b, c.difference.text(sign=True), p_text(p), *effect, share])
                table.records.append(record(group, c) | {"p_holm": p})
        if len(lines) > 1:
            table.blocks.append(Block(lines, left=2, title=metric))
    table.conclusion = conclusion(tests, adjusted, observed.sources)
    return table


def component_table(group: Group, observed: Observed, caption: str, notes: list[str]) -> Table | None:
    """Variants of one method as differences to its full model (the row without overrides); None without any."""
    table = Table("components", f"Differences to the full model. {caption}", notes)
    for full in [row for row in group.rows if not overrides(row)]:
        of_full = variants(group, full)
        lines = [["variant", "bPQ", *(f"Δ {m} [95 %]" for m in TESTED), "params (M)", "trainable (M)"]]
        for row in of_full:
            line = [", ".join(overrides(row)), interval(observed, row, "bPQ").text()]
            for metric in TESTED:
                c = compare(observed, row, full, metric)
                line.append(c.difference.text(sign=True) if c else "–")
                if c:
                    table.records.append(record(group, c) | {"variant": ",".join(overrides(row))})
            lines.append(line + [_cost(row, key) for key in ("params", "trainable")])
        if of_full:
            whole = [interval(observed, full, "bPQ").text(), "–", "–"]
            lines.insert(1, [f"{full.label} (full)", *whole, *(_cost(full, k) for k in ("params", "trainable"))])
            table.blocks.append(Block(lines, title=full.label))
    if not table.records:
        return None
    counted = "The intervals of this table are not corrected for their number: with many variants some miss by chance."
    table.notes = [reading(observed, 0)[0], counted, *table.notes]
    return table


def tuning_table(group: Group, observed: Observed, caption: str, notes: list[str]) -> Table | None:
    """What is trained, against accuracy; None unless two strategies are there."""
    lines, records = [["strategy", "method", "bPQ [95 %]", "mPQ [95 %]", "trainable (M)", "of params"]], []
    for row in group.rows:
        tune = next((r.config.get("arguments", {}).get("tune") for r in row.runs), None)
        others = [o for o in overrides(row) if not o.startswith(("tune=", "lora"))]
        if row.method.partition("@")[0] not in TUNED or tune is None or others:
            continue
        params, trainable = _mean_cost(row, "params"), _mean_cost(row, "trainable")
        share = f"{trainable / params:.1%}" if params and not math.isnan(params) else "–"
        texts, values = [], {}
        for metric in TESTED:
            score = interval(observed, row, metric)
            texts.append(score.text())
            values |= {metric: score.value, f"{metric}_low": score.low, f"{metric}_high": score.high}
        lines.append([str(tune), row.label, *texts, _cost(row, "trainable"), share])
        records.append(
            {
                "method": row.method,
                "settings": row.settings,
                "tune": tune,
                **values,
                "params": params,
                "trainable": trainable,
            }
        )
    if len({r["tune"] for r in records}) < 2:
        return None
    notes = [reading(observed, 0)[0], STRATEGIES, *notes]
    return Table("tuning", f"Tuning strategies. {caption}", notes, [Block(lines, left=2)], records)


def reading(observed: Observed, tests: int) -> list[str]:
    """Sentences on how the intervals, and the tests if there are any, were computed.

    Args:
        tests: number of tests in the table.
    """
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


def conclusion(tests: list[Comparison], adjusted: list[float], sources: bool) -> str:
    """Sentences on what the tests allow to conclude: how many differences hold, and the larger ones in bPQ by name.

    Args:
        adjusted: p value of each test, corrected for their number; NaN where it could not be computed.
        sources: whether the tests' units are source images.
    """
    known = [(c, p) for c, p in zip(tests, adjusted) if not math.isnan(p)]
    if not known:
        return "Too few independent units for any test: nothing may be concluded from these differences."
    firm = [c for c, p in known if p < 0.05 and (c.difference.low > 0 or c.difference.high < 0)]
    text = f"{len(firm)} of {len(known)} differences hold at the 5 % level after correction, with an interval off zero."
    differences = []
    for c in sorted((c for c in firm if c.metric == TESTED[0]), key=lambda c: -abs(c.difference.value)):
        higher, lower = (c.a, c.b) if c.difference.value > 0 else (c.b, c.a)
        differences.append(f"{higher} above {lower} ({abs(c.difference.value):.3f})")
    if differences:
        more = f", and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
        text += f" In {TESTED[0]}, largest first: {', '.join(differences[:NAMED])}{more}."
    units = "source images" if sources else "test images"
    return (
        f"{text} This holds for other {units} like these, given these trained networks; what another seed or another "
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
    return "–" if math.isnan(value) else f"{value:+z.2f}"


def _mean_cost(row: Row, key: str) -> float:
    return summarise((run.cost.get(key) for run in row.runs), 1).mean


def _cost(row: Row, key: str) -> str:
    """A number of parameters, in millions."""
    value = _mean_cost(row, key)
    return "–" if math.isnan(value) else f"{value * 1e-6:.2f}"

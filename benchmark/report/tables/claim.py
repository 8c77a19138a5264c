"""The table of docs/claim.md: the primary questions with their answers, where the arms that they are about were run."""

import math

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row, overrides
from benchmark.report.select.observations import Observed
from benchmark.report.stats.claim import FAMILY, INTERACTIONS, LEAST, Answer, Question, answers

ADAPTER, RIVALS = "cellvta", ("decoder_only", "full_finetune")
WORDS = {
    "bPQ": "{a} − {b} in bPQ",
    "mPQ": "{a} − {b} in mPQ",
    "size": "gain over {b}, nuclei < 6 µm less those ≥ 6 µm (PQ)",
    "crowding": "gain over {b}, touching nuclei less free ones (PQ)",
}


def claim_table(group: Group, observed: Observed, caption: str, notes: list[str]) -> Table | None:
    """The questions of docs/claim.md; None where the adapter or both rivals are absent, or stand in several rows."""
    arms = {name: _arm(group, observed, name) for name in (ADAPTER, *RIVALS)}
    adapter, rivals = arms[ADAPTER], [arms[name] for name in RIVALS if arms[name]]
    if adapter is None or not rivals:
        return None
    asked = [
        (Question(adapter.name, rival.name, metric), adapter, rival) for rival in rivals for metric in ("bPQ", "mPQ")
    ]
    if alone := arms["decoder_only"]:
        asked += [(Question(adapter.name, alone.name, name), adapter, alone) for name in INTERACTIONS]
    answered = answers(observed, asked)
    if not answered:
        return None
    table = Table("claim", f"Is the adapter better? {caption}", [*_reading(observed, len(answered)), *notes])
    head = ["question", "difference", f"{1 - FAMILY:.0%} (Holm)", "least", "sd over seeds", "per split", "pairs", "so"]
    table.blocks.append(Block([head, *(_line(answer) for answer in answered)]))
    table.records = [_record(group, answer, key) for answer in answered for key in (None, *answer.pairs)]
    return table


def _arm(group: Group, observed: Observed, name: str) -> Row | None:
    """The one row of a method without changed arguments that has records; None without one.

    Of several, such as those of a search for its learning rate, the one that the experiment names; None where it names
    none or several.
    """
    rows = [row for row in group.rows if row.spec.partition("@")[0] == name and observed.runs(row)]
    rows = [row for row in rows if not overrides(row)]
    if len(rows) > 1:
        rows = [row for row in rows if row.method in group.asked]
    return rows[0] if len(rows) == 1 else None


def _line(answer: Answer) -> list[str]:
    question = answer.question
    interval = "–" if math.isnan(answer.low) else f"[{answer.low:+z.3f}, {answer.high:+z.3f}]"
    spread = "–" if math.isnan(answer.sd_of_seeds) else f"{answer.sd_of_seeds:.3f}"
    splits = ", ".join(f"{value:+z.3f}" for value in answer.of_splits.values())
    text = WORDS[question.asked].format(a=question.a, b=question.b)
    numbers = [f"{answer.value:+z.3f}", interval, f"{LEAST[question.asked]:g}", spread, splits, str(len(answer.pairs))]
    return [text, *numbers, answer.verdict or "–"]


def _record(group: Group, answer: Answer, pair: tuple[int, int] | None) -> dict:
    """A csv line: of the whole answer, or of one (split, seed) pair."""
    question = answer.question
    facts = {"dataset": group.dataset, "kind": group.kind, "preset": group.scale}
    facts |= {"a": question.a, "b": question.b, "asked": question.asked, "clusters": answer.clusters}
    if pair is not None:
        return facts | {"fold": pair[0], "seed": pair[1], "difference": answer.pairs[pair]}
    whole = {"difference": answer.value, "low": answer.low, "high": answer.high, "p": answer.p}
    return facts | whole | {"sd_over_seeds": answer.sd_of_seeds, "pairs": len(answer.pairs), "verdict": answer.verdict}


def _reading(observed: Observed, count: int) -> list[str]:
    unit = "source images" if observed.sources else "test images (the data name no source image)"
    return [
        f"Differences are paired within split and seed and averaged over the pairs; intervals are percentiles of a "
        f"bootstrap over {len(observed.clusters)} {unit}, resampled once for all splits that test them, and hold "
        f"together at the {FAMILY:.0%} level over the {count} questions (Holm).",
        "so: better (worse) when the interval lies above the smallest effect of interest (below its negative) and all "
        "splits agree in sign; no difference when it lies within ± that effect; else undecided; – before all three "
        "splits were run. docs/claim.md said so before the runs.",
    ]

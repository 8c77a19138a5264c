"""The table of docs/claim.md: the primary questions with their answers, where the arms that they are about were run."""

import math
from dataclasses import replace

import numpy as np

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row, overrides
from benchmark.report.select.observations import Observed
from benchmark.report.stats.claim import FAMILY, INTERACTIONS, LEAST, QUESTIONS, Answer, Question, answers, verdict
from benchmark.runtime.counts import counted

REGISTERED = {
    ("synthetic@patches=168", "mini"): 9,
    ("consep+monuseg", "mini"): 6,
}  # data set, preset -> pairs of a question
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
    if arms[ADAPTER] is None or not any(arms[name] for name in RIVALS):
        return None
    asked = [(b, metric) for b in RIVALS for metric in ("bPQ", "mPQ")] + [(RIVALS[0], name) for name in INTERACTIONS]
    names = {name: row.name if row else name for name, row in arms.items()}
    expected = REGISTERED.get((group.dataset, group.scale), group.expected)
    answered = answers(
        observed, [(Question(names[ADAPTER], names[b], what), arms[ADAPTER], arms[b]) for b, what in asked], expected
    )
    if all(answer.why for answer in answered):
        return None
    table = Table(
        "claim", f"Is the adapter better? {caption}", [*_reading(group, observed, answered, expected), *notes]
    )
    units = "sources" if observed.sources else "images"
    head = [
        "question",
        "difference",
        f"{1 - FAMILY:.0%} (all {QUESTIONS})",
        "seeds resampled too",
        "smallest effect",
        "per split",
        "sd over seeds",
    ]
    head += ["pairs", "lowest, highest", units, "so"]
    table.blocks.append(Block([head, *(_line(answer, expected) for answer in answered)]))
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


def _line(answer: Answer, expected: int) -> list[str]:
    question = answer.question
    text, least = WORDS[question.asked].format(a=question.a, b=question.b), f"{LEAST[question.asked]:g}"
    if answer.why:
        return [text, "–", "–", "–", least, "–", "–", f"0/{expected}", "–", "–", "–"]
    interval, wide = (
        "–" if math.isnan(low) else f"[{low:+z.3f}, {high:+z.3f}]"
        for low, high in ((answer.low, answer.high), answer.with_seeds)
    )
    spread = "–" if math.isnan(answer.sd_of_seeds) else f"{answer.sd_of_seeds:.3f}"
    splits = ", ".join(f"{value:+z.3f}" for value in answer.of_splits.values())
    extremes = ", ".join(f"{end(answer.pairs.values()):+z.3f}" for end in (min, max))
    numbers = [
        f"{answer.value:+z.3f}",
        interval,
        wide,
        least,
        splits,
        spread,
        f"{len(answer.pairs)}/{expected}",
        extremes,
    ]
    mark = " †" if _with_seeds(answer, expected) else ""
    return [text, *numbers, str(answer.clusters), f"{answer.verdict}{mark}" or "–"]


def _record(group: Group, answer: Answer, pair: tuple[int, int] | None) -> dict:
    """A csv line: of the whole answer, or of one (split, seed) pair."""
    question = answer.question
    facts = {"dataset": group.dataset, "kind": group.kind, "preset": group.scale}
    facts |= {"a": question.a, "b": question.b, "asked": question.asked, "clusters": answer.clusters}
    if pair is not None:
        return facts | {"fold": pair[0], "seed": pair[1], "difference": answer.pairs[pair]}
    whole = {"difference": answer.value, "low": answer.low, "high": answer.high}
    whole |= {"low_with_seeds": answer.with_seeds[0], "high_with_seeds": answer.with_seeds[1], "p": answer.p}
    whole |= {"sd_over_seeds": answer.sd_of_seeds, "pairs": len(answer.pairs), "verdict": answer.verdict}
    return facts | whole | {"not_measured": answer.why}


def _of_both_signs(answer: Answer) -> str:
    """How many pairs have the other sign than a mean that is worth speaking of, in words; "" where all agree."""
    other = sum(np.sign(value) != np.sign(answer.value) for value in answer.pairs.values())
    if answer.why or not other or abs(answer.value) < LEAST[answer.question.asked]:
        return ""
    asked = WORDS[answer.question.asked].format(a=answer.question.a, b=answer.question.b)
    return f"{asked} has the other sign in {other} of {counted(len(answer.pairs), 'pair')}"


def _with_seeds(answer: Answer, expected: int) -> str:
    """What the interval over seeds as well would make of the verdict, in words; "" where it stays."""
    low, high = answer.with_seeds
    if math.isnan(low) or (word := verdict(replace(answer, low=low, high=high), expected)) == answer.verdict:
        return ""
    asked = WORDS[answer.question.asked].format(a=answer.question.a, b=answer.question.b)
    return f"{asked} would be {word}"


def _reading(group: Group, observed: Observed, answered: list[Answer], expected: int) -> list[str]:
    unit = "source images" if observed.sources else "test images (the data name no source image)"
    rule = "docs/claim.md has the rule, which stood there before the runs, and what was amended since."
    registered = (group.dataset, group.scale) in REGISTERED
    lines = [
        f"Differences are paired within split and seed and averaged over the pairs. Intervals are percentiles of a "
        f"bootstrap over {unit}, resampled once for all splits that test them, each at the level 1 − {FAMILY:g}/"
        f"{QUESTIONS}, so that all {QUESTIONS} hold together at {1 - FAMILY:.0%}. They are of these very trainings: "
        "how others may differ is seen in the sd over seeds, in the lowest and highest of the pairs, and in the "
        "interval for which the seeds of each split were resampled too (exploratory; of so few seeds it is rather too "
        "narrow). The csv of this table has the difference of every pair; "
        f"{'sources' if observed.sources else 'images'} are those that hold nuclei which a question is about.",
        "so: better (worse) when the interval lies above the smallest effect of interest (below its negative) and all "
        "splits agree in sign; no difference when it lies within ± that effect; else undecided; – before all "
        f"{expected} pairs, of three splits, were run. Of the last two rows better means that the gain is larger."
        f"{' ' + rule if registered else ''}",
    ]
    if split := [text for answer in answered if (text := _of_both_signs(answer))]:
        lines.append(
            f"Trainings disagree: {'; '.join(split)}. The registered intervals leave out how trainings differ."
        )
    if turned := [text for answer in answered if (text := _with_seeds(answer, expected))]:
        lines.append(f"†: with the seeds resampled too {'; '.join(turned)}.")
    if lacking := [answer for answer in answered if answer.why]:
        asked = [(WORDS[one.question.asked].format(a=one.question.a, b=one.question.b), one.why) for one in lacking]
        lines.append(f"Not measured: {'; '.join(f'{text} ({why})' for text, why in asked)}.")
    return lines

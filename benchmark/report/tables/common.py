"""Captions, notes and the columns of csv lines that all tables share."""

from benchmark.report.select.groups import Group, Row
from benchmark.report.stats.summary import Summary, summarise
from benchmark.results.run import words
from benchmark.runtime.paths import as_called


def run_list(group: Group) -> list[dict]:
    """One line per run: where each number comes from."""
    keys = ("command", "commit", "dirty", "hardware", "op_backend", "started", "finished", "data_fingerprint")
    out = []
    for row in group.rows:
        for run in row.runs:
            line = record(group, row) | {
                "fold": run.id.split,
                "seed": run.id.seed,
                "key": run.metrics.get("key"),
            }
            line["best_epoch"] = run.metrics.get("best_epoch")
            out.append(line | {k: words(run.provenance[k]) if k in run.provenance else None for k in keys})
    return out


def caption(group: Group, protocol: str, values: dict) -> str:
    """Dataset, kind, preset, protocol with version, folds and seeds in one line."""
    versions = sorted({str(v["version"]) for v in values.values() if "version" in v})
    name = f"protocol `{protocol}`" + (f" version {', '.join(versions)}" if versions else "")
    return f"{group.title}: {name}, {extent(group)}"


def notes(group: Group) -> list[str]:
    """Sentences below a table: how to read it, then commit, command and hardware, then what is unusual."""
    if group.expected > 1:
        spread = "Mean ± sample standard deviation over runs (folds × seeds)"
        out = [f"{spread}; (k/n): only k of the n expected runs have the value; –: none has."]
    else:
        out = ["One run per row, hence no spread; –: no run or no value."]
    provenances = [run.provenance for run in group.runs]
    commits = set()
    for provenance in provenances:
        if provenance.get("commit"):
            changed = " with uncommitted changes" if provenance.get("dirty") else ""
            commits.add(f"{str(provenance['commit'])[:10]}{changed}")
    commands = list(dict.fromkeys(words(p["command"]) for p in provenances if p.get("command")))
    hardware = sorted({words(p["hardware"]) for p in provenances if p.get("hardware")})
    command = f"`{commands[0]}`" if commands else "command unknown"
    if len(commands) > 1:
        command += f" and {len(commands) - 1} more (runs.csv)"
    out.append(f"Commit: {', '.join(sorted(commits)) or 'unknown'}. Table: `{as_called('table')}`; runs: {command}.")
    if hardware:
        out.append(f"Hardware: {'; '.join(hardware)}.")
    if len(hardware) > 1:
        out.append("Speed and memory were measured on different machines and are not comparable between them.")
    return out + group.notes()


def record(group: Group, row: Row, protocol: str | None = None, values: dict | None = None) -> dict:
    """The columns that every csv line has.

    Args:
        protocol: adds its name and version.
        values: run folder -> flat scores under `protocol`.
    """
    line = {"dataset": group.dataset, "kind": group.kind, "preset": group.scale}
    if protocol:
        versions = sorted({values[r.folder]["version"] for r in row.runs if "version" in values[r.folder]})
        line |= {"protocol": protocol, "protocol_version": versions[0] if versions else None}
    backbone, weights = row.backbone
    return line | {
        "method": row.method,
        "settings": row.settings,
        "backbone": backbone,
        "weights": weights,
        "runs": len(row.runs),
        "expected": group.expected,
    }


def named(group: Group, row: Row | None = None) -> list[str]:
    """The first cells of a row, or of the header: method and, where a row of the group has some, settings."""
    with_settings = any(each.settings for each in group.rows)
    if row is None:
        return ["method", "settings"] if with_settings else ["method"]
    return [row.name, row.settings or "–"] if with_settings else [row.label]


def score_of(group: Group, row: Row, key: str, values: dict) -> Summary:
    """Summary of one score over the runs of a row. `values`: run folder -> flat scores."""
    return summarise((values[run.folder].get(key) for run in row.runs), group.expected)


def columns(summary: Summary) -> dict:
    """A summary as columns of a csv line."""
    return {"mean": summary.mean, "sd": summary.sd, "n": summary.n}


def fixed(summary: Summary, digits: int, scale: float = 1.0) -> str:
    """Text of a number that should be equal in all runs (parameters, FLOPs): a spread only where it is not."""
    same = Summary(summary.mean, 0.0, min(summary.n, 1), 1)
    return (summary if summary.sd > 0 else same).text(digits, scale)


def extent(group: Group) -> str:
    """Such as "3 folds (1, 2, 3) × 1 seed (0)"."""
    return f"{_counted('fold', group.splits)} × {_counted('seed', group.seeds)}"


def _counted(word: str, numbers: list[int]) -> str:
    plural = "s" if len(numbers) > 1 else ""
    return f"{len(numbers)} {word}{plural} ({', '.join(map(str, numbers))})"

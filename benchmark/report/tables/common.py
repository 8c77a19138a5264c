"""What all tables share: captions, notes, the columns of every csv line, one cell's summary."""

from benchmark.report.select.groups import Group, Row
from benchmark.report.stats.summary import Summary, summarise


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
    """How to read the cells, then commit, command and hardware, then what is unusual."""
    if group.expected > 1:
        spread = "Mean ± sample standard deviation over runs (folds × seeds)"
        out = [f"{spread}; (k/n): only k of the n expected runs have the value; –: none has."]
    else:
        out = ["One run per row, hence no spread; –: no run or no value."]
    told = [run.provenance for run in group.runs]
    commits = {
        f"{str(p['commit'])[:10]}{' with uncommitted changes' if p.get('dirty') else ''}"
        for p in told
        if p.get("commit")
    }
    commands = list(dict.fromkeys(words(p["command"]) for p in told if p.get("command")))
    hardware = sorted({words(p["hardware"]) for p in told if p.get("hardware")})
    more = f" and {len(commands) - 1} more (runs.csv)" if len(commands) > 1 else ""
    out.append(
        f"Commit: {', '.join(sorted(commits)) or 'unknown'}. "
        f"Table: `make table`; runs: {f'`{commands[0]}`{more}' if commands else 'command unknown'}."
    )
    if hardware:
        out.append(f"Hardware: {'; '.join(hardware)}.")
    if len(hardware) > 1:
        out.append("Speed and memory were measured on different machines and are not comparable between them.")
    return out + group.notes()


def record(group: Group, row: Row, protocol: str | None = None, values: dict | None = None) -> dict:
    """The columns that every csv line has."""
    line = {"dataset": group.dataset, "kind": group.kind, "preset": group.scale}
    if protocol:
        versions = sorted({values[r.folder]["version"] for r in row.runs if "version" in values[r.folder]})
        line |= {"protocol": protocol, "protocol_version": versions[0] if versions else None}
    backbone, weights = row.backbone
    return line | {
        "method": row.method,
        "backbone": backbone,
        "weights": weights,
        "runs": len(row.runs),
        "expected": group.expected,
    }


def score_of(group: Group, row: Row, key: str, values: dict) -> Summary:
    return summarise((values[run.folder].get(key) for run in row.runs), group.expected)


def columns(summary: Summary) -> dict:
    return {"mean": summary.mean, "sd": summary.sd, "n": summary.n}


def fixed(summary: Summary, digits: int, scale: float = 1.0) -> str:
    """A number that is the same in every run (parameters, FLOPs): neither spread nor mark unless it is not."""
    same = Summary(summary.mean, 0.0, min(summary.n, 1), 1)
    return (summary if summary.sd > 0 else same).text(digits, scale)


def extent(group: Group) -> str:
    def part(word, numbers):
        return f"{len(numbers)} {word}{'s' if len(numbers) > 1 else ''} ({', '.join(map(str, numbers))})"

    return f"{part('fold', group.splits)} × {part('seed', group.seeds)}"


def words(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {value[key]}" for key in sorted(value) if value[key] is not None)
    return " ".join(str(value).split())

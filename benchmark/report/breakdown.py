"""The tables themselves: a group of runs and their scores in, cells out."""

from benchmark.report.formats import Block, Table
from benchmark.report.groups import Group, Row
from benchmark.report.sizes import TABLE_EDGES, bin_names, bounds, scores_of
from benchmark.report.stats import Summary, summarise

SCORES = ("bPQ", "mPQ", "bDQ", "bSQ", "F1", "Dice", "AJI")
MEANS = tuple(f"{mean}/{score}" for mean in ("image_mean", "tissue_mean") for score in ("bPQ", "mPQ"))  # csv only
COSTS = ("params", "trainable", "gflops", "images_per_second", "decode_ms", "train_seconds", "pretrain_seconds")
MEMORY = ("rss", "cuda")
MIB = 2.0**-20


def main_table(group: Group, protocol: str, values: dict) -> Table:
    """Methods × accuracy and cost. `values` maps a run's folder to its flat scores under `protocol`."""
    header = ["method", "backbone (weights)", "bPQ", "mPQ", "detection F1", "params (M)", "trainable (M)"]
    cells = [[*header, "GFLOPs", "images/s", "peak memory (MiB)", "runs"]]
    table = Table(f"main-{protocol}", caption(group, protocol, values), notes(group))
    for row in group.rows:
        record = _record(group, row, protocol, values)
        score = {s: _score(group, row, s, values) for s in SCORES + MEANS}
        cost = {c: summarise((r.cost.get(c) for r in row.runs), group.expected) for c in COSTS}
        memory = {m: _memory(group, row, m) for m in MEMORY}
        for key, summary in (score | cost | {f"peak_memory_{m}_bytes": s for m, s in memory.items()}).items():
            record |= {f"{key}_mean": summary.mean, f"{key}_sd": summary.sd, f"{key}_n": summary.n}
        used = [s.text(0, MIB, unit=m) for m, s in memory.items() if s.n]
        cells.append(
            [
                row.label,
                row.backbone_text,
                *(score[s].text() for s in ("bPQ", "mPQ", "F1")),
                _fixed(cost["params"], 2, 1e-6),
                _fixed(cost["trainable"], 2, 1e-6),
                _fixed(cost["gflops"], 1),
                cost["images_per_second"].text(1),
                "; ".join(used) or "–",
                f"{len(row.runs)}/{group.expected}",
            ]
        )
        table.records.append(record)
    table.blocks.append(Block(cells, left=2))
    if any(row[7] != "–" for row in cells[1:]):
        table.notes.insert(1, "GFLOPs: of the forward passes that one test image takes, a multiply-add counting as 2.")
    if any(row[9] != "–" for row in cells[1:]):
        table.notes.insert(1, "Peak memory: rss is main memory of the process, cuda is memory allocated on the GPU.")
    return table


def tissue_table(group: Group, protocol: str, values: dict) -> Table | None:
    """bPQ and mPQ, tissues × methods; None for data without tissues.

    A tissue that the data set does not list stands last, under its own name: it is not in the overall mean.
    """
    known = group.names("tissues")
    scored = [k.split("/", 1)[1].rsplit("/", 1)[0] for v in values.values() for k in v if k.startswith("tissue/")]
    others = {name: f"{name} (not in the mean)" for name in sorted(set(scored) - set(known))}
    named = {name: name for name in known if name in scored} | others
    keys = {shown: {m: f"tissue/{name}/{m}" for m in ("bPQ", "mPQ")} for name, shown in named.items()}
    return (
        _breakdown(group, protocol, values, "tissues", "tissue", keys, {"bPQ": "bPQ", "mPQ": "mPQ"}) if keys else None
    )


def type_table(group: Group, protocol: str, values: dict) -> Table | None:
    """PQ and F1, nucleus types × methods; None for data without types."""
    keys = {name: {"PQ": f"PQ_{name}", "F1": f"F1_{name}"} for name in group.names("classes")}
    return _breakdown(group, protocol, values, "types", "type", keys, {"PQ": "mPQ"}) if keys else None


def _breakdown(group, protocol, values, name, what, keys, overall) -> Table:
    """One block per metric: rows are parts, columns methods; `overall` adds the main table's value."""
    table = Table(f"{name}-{protocol}", f"Per {what}. {caption(group, protocol, values)}", notes(group))
    for metric in next(iter(keys.values())):
        cells, records = [[what, *(row.label for row in group.rows)]], []
        parts = [(part, k[metric]) for part, k in keys.items()]
        if metric in overall:
            parts.append((f"overall {overall[metric]}", overall[metric]))
        for part, key in parts:
            scores = [_score(group, row, key, values) for row in group.rows]
            cells.append([part, *(s.text() for s in scores)])
            records += [
                _record(group, row, protocol, values) | {what: part, "metric": metric} | _columns(s)
                for row, s in zip(group.rows, scores)
            ]
        if not table.blocks or any(r["n"] for r in records):  # a metric that the protocol does not have
            table.blocks.append(Block(cells, title=metric))
            table.records += records
    return table


def size_table(group: Group, scores: dict) -> Table | None:
    """PQ and recall, size bins × methods, pooled over each run's images; None when no run has records."""
    per_row = {id(row): [s.table for s in scores_of(row, scores)] for row in group.rows}
    if not any(per_row.values()):
        return None
    title = f"Per nucleus size (equivalent diameter; binary PQ, IoU > 0.5). {group.title}: {_extent(group)}"
    table = Table("sizes", title, notes(group))
    table.notes.insert(
        1,
        "Nuclei are matched once on the whole image and pooled over the images of a run; hits "
        "and misses stand in the bin of the true nucleus, false positives in that of the predicted one.",
    )
    by_fold = {run.id.fold: scores[run.folder].table["n_true"] for run in group.runs if scores.get(run.folder)}
    for metric in ("PQ", "recall"):
        cells = [["size", "true nuclei", *(row.label for row in group.rows)]]
        for b, (name, (low, high)) in enumerate(zip(bin_names(TABLE_EDGES), bounds(TABLE_EDGES))):
            n_true = int(sum(counts.iloc[b] for counts in by_fold.values()))
            line = [name, str(n_true)]
            for row in group.rows:
                summary = summarise((t[metric].iloc[b] for t in per_row[id(row)]), group.expected)
                line.append(summary.text())
                record = _record(group, row) | {"d_from_um": low, "d_to_um": high, "n_true": n_true}
                table.records.append(record | {"metric": metric} | _columns(summary))
            cells.append(line)
        table.blocks.append(Block(cells, title=metric))
    _ceilings(table, group, by_fold)
    return table


def _ceilings(table: Table, group: Group, by_fold: dict) -> None:
    """Adds the block of what each method's decoding reaches on perfect maps; nothing when no run stored it."""
    bins = bin_names(TABLE_EDGES)
    stored = {id(row): [c for run in row.runs if len(c := _ceiling(run)) == len(bins)] for row in group.rows}
    if not any(stored.values()):
        return
    cells = [["size", "true nuclei", *(row.label for row in group.rows)]]
    for b, (name, (low, high)) in enumerate(zip(bins, bounds(TABLE_EDGES))):
        n_true = int(sum(counts.iloc[b] for counts in by_fold.values()))
        line = [name, str(n_true)]
        for row in group.rows:
            summary = summarise((ceiling[b] for ceiling in stored[id(row)]), group.expected)
            line.append(summary.text())
            record = _record(group, row) | {"d_from_um": low, "d_to_um": high, "n_true": n_true}
            table.records.append(record | {"metric": "PQ ceiling"} | _columns(summary))
        cells.append(line)
    table.blocks.append(Block(cells, title="PQ ceiling"))
    table.notes.insert(
        2, "PQ ceiling: the method's decoding of perfect maps, made from the truth; no network is involved."
    )


def _ceiling(run) -> list:
    """PQ of each size bin as stored by the run, [] when it stored none."""
    stored = run.metrics.get("ceiling")
    lines = stored.get("sizes") if isinstance(stored, dict) else None
    return [line.get("PQ") if isinstance(line, dict) else None for line in lines] if isinstance(lines, list) else []


def run_list(group: Group) -> list[dict]:
    """One line per run: where each number comes from."""
    keys = ("command", "commit", "dirty", "hardware", "op_backend", "started", "finished", "data_fingerprint")
    out = []
    for row in group.rows:
        for run in row.runs:
            line = _record(group, row) | {
                "fold": run.id.fold,
                "seed": run.id.seed,
                "key": run.metrics.get("key"),
            }
            line["best_epoch"] = run.metrics.get("best_epoch")
            out.append(line | {k: _words(run.provenance[k]) if k in run.provenance else None for k in keys})
    return out


def caption(group: Group, protocol: str, values: dict) -> str:
    """Dataset, kind, preset, protocol with version, folds and seeds in one line."""
    versions = sorted({str(v["version"]) for v in values.values() if "version" in v})
    name = f"protocol `{protocol}`" + (f" version {', '.join(versions)}" if versions else "")
    return f"{group.title}: {name}, {_extent(group)}"


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
    commands = list(dict.fromkeys(_words(p["command"]) for p in told if p.get("command")))
    hardware = sorted({_words(p["hardware"]) for p in told if p.get("hardware")})
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


def _record(group: Group, row: Row, protocol: str | None = None, values: dict | None = None) -> dict:
    """The columns that every csv line has."""
    record = {"dataset": group.dataset, "kind": group.kind, "preset": group.scale}
    if protocol:
        versions = sorted({values[r.folder]["version"] for r in row.runs if "version" in values[r.folder]})
        record |= {"protocol": protocol, "protocol_version": versions[0] if versions else None}
    backbone, weights = row.backbone
    return record | {
        "method": row.method,
        "backbone": backbone,
        "weights": weights,
        "runs": len(row.runs),
        "expected": group.expected,
    }


def _score(group: Group, row: Row, key: str, values: dict) -> Summary:
    return summarise((values[run.folder].get(key) for run in row.runs), group.expected)


def _memory(group: Group, row: Row, kind: str) -> Summary:
    used = [r.cost.get("peak_memory_bytes") for r in row.runs if r.cost.get("peak_memory_kind") == kind]
    return summarise(used, group.expected)


def _columns(summary: Summary) -> dict:
    return {"mean": summary.mean, "sd": summary.sd, "n": summary.n}


def _fixed(summary: Summary, digits: int, scale: float = 1.0) -> str:
    """A number that is the same in every run (parameters, FLOPs): neither spread nor mark unless it is not."""
    same = Summary(summary.mean, 0.0, min(summary.n, 1), 1)
    return (summary if summary.sd > 0 else same).text(digits, scale)


def _extent(group: Group) -> str:
    def part(word, numbers):
        return f"{len(numbers)} {word}{'s' if len(numbers) > 1 else ''} ({', '.join(map(str, numbers))})"

    return f"{part('fold', group.folds)} × {part('seed', group.seeds)}"


def _words(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {value[key]}" for key in sorted(value))
    return " ".join(str(value).split())

"""`keep`: finished runs in compact form, to be committed."""

import sys
from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError
from benchmark.runtime.scales import SCALES

HELP = "Write finished runs in a compact form, without loss, to a folder that can be committed; see `adopt`."
EXAMPLE = "--out docs/reference/claim/runs --dataset synthetic@patches=168 --preset mini"


def arguments(parser) -> None:
    from benchmark.results.run_id import KINDS

    shared.results(parser)
    parser.add_argument("--out", type=Path, required=True, help="where they go; what is there with the same key stays")
    parser.add_argument("--dataset", help="only this dataset, by its name in results")
    parser.add_argument("--kind", choices=KINDS, help="only this kind of run")
    parser.add_argument("--preset", choices=SCALES, help="only this scale")
    parser.add_argument("--methods", nargs="+", help="only these methods, such as cellvta or cellvta@mini")


def run(options) -> int:
    from benchmark.results.collect import no_runs, runs
    from benchmark.results.compact import RUN_BYTES
    from benchmark.results.kept import chosen, keep

    complete = runs(options.results)
    if not complete:
        raise InputError(no_runs(options.results, complete, None))
    part = chosen(complete, options.dataset, options.kind, options.preset, options.methods)
    if not part:
        there = ", ".join(sorted({f"{run.id.dataset} ({run.id.kind}, preset {run.scale})" for run in complete}))
        raise InputError(f"None of the {len(complete)} finished runs in {options.results} fits; they are of {there}.")
    new = 0
    for kept in keep(part, options.out):
        new += kept.new
        print(f"{'kept' if kept.new else 'there'} {kept.run}: {kept.size / 1000:.0f} KB", flush=True)
        if kept.as_it_is:
            print(f"stored as it is: {kept.run}: {', '.join(kept.as_it_is)}", file=sys.stderr)
        if kept.size > RUN_BYTES:
            print(f"large: {kept.run}: more than {RUN_BYTES / 1000:.0f} KB", file=sys.stderr)
    print(f"{new} of {len(part)} runs newly kept in {options.out}")
    return 0

"""`verify`: every file of finished runs against the hashes that the runs list."""

from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Read every file of finished runs and compare it with the hash that the run lists; exit 1 when one is damaged."
EXAMPLE = "results/synthetic/cellvta@small/fold1-seed0"


def arguments(parser) -> None:
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a run (default: all in --results)")
    shared.results(parser)


def run(options) -> int:
    from benchmark.results.run_folder import RunFolder, run_folders
    from benchmark.results.verify import Verdict, verify

    folders = [RunFolder(path) for path in options.runs] or run_folders(options.results)
    for folder in folders:
        if options.runs and not folder.complete:
            raise InputError(f"{folder}: expected the folder of a finished run, found no metrics.json there.")
    folders = [folder for folder in folders if folder.complete]
    if not folders:
        raise InputError(f"{options.results} holds no finished run; name a run's folder or set --results.")
    verdicts: list[Verdict] = []
    for folder in folders:
        verdicts.append(verify(folder))
        print(f"{verdicts[-1].name:8} {folder} {verdicts[-1].why}".rstrip(), flush=True)
    return int(any(verdict.name == "damaged" for verdict in verdicts))

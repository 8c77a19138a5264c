"""Whether the files of a finished run are what the run wrote: all of them are read."""

from typing import NamedTuple

from benchmark.results import manifest
from benchmark.results.run import UNREADABLE, read_object
from benchmark.results.run_folder import RunFolder


class Verdict(NamedTuple):
    """What reading a run's files showed.

    Attributes:
        name: whole, damaged, or unlisted (stored before runs listed their files).
        why: the damaged files and how they differ, or the removable ones that are gone.
    """

    name: str
    why: str


def verify(folder: RunFolder) -> Verdict:
    """Read every listed file of a finished run."""
    try:
        metrics = read_object(folder.metrics)
        manifest.check_content(folder.metrics, metrics)
        if folder.provenance.exists():
            manifest.check_content(folder.provenance, read_object(folder.provenance))
    except UNREADABLE as error:
        return Verdict("damaged", str(error))
    if not manifest.files_of(metrics):
        return Verdict("unlisted", "stored without a list of its files; nothing to compare with")
    files = folder.files
    damaged = manifest.faults(folder.path, files, manifest.NEEDED)
    for name in files:
        try:
            manifest.check(folder.path / name, files)
        except UNREADABLE as error:
            damaged.append(str(error))
    if damaged:
        return Verdict("damaged", "; ".join(dict.fromkeys(damaged)))
    gone = [name for name in files if not (folder.path / name).exists()]
    return Verdict("whole", f"{', '.join(gone)} removed" if gone else "")

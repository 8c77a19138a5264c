"""`python -m tests.support.kills [--count N] [--seed S] [--at-once 2]`: an ablation killed, resumed, and compared.

The ablation (debug scale, a few drawn images) runs once unbroken. Then it is killed N times with SIGKILL, all its
processes at once (with --at-once, every second time the first of them alone, with which the cells must end), and
started again until it ends; when it has ended, all of its files are compared byte for byte with those of the unbroken
one, and the next round begins with an empty cache and no results. Every third kill comes at a moment drawn evenly from
the time that the rest of the ablation may take; the others come when a file drawn at random appears or goes, or some
milliseconds later, so that they also land between two steps of storing; and every third round begins with one while
the pretext is trained. Prints how many kills landed where. Exit code 1 when a file differs, or an ablation did not end
well.
"""

import argparse
import collections
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmark.results.run_folder import RunFolder, run_folders
from benchmark.results.verify import verify
from benchmark.runtime.files import read_json
from benchmark.runtime.paths import ROOT
from tests.support.tiny_data import TINY

EXAMPLE = "example: python -m tests.support.kills --count 10 --seed 1 (or: make kills COUNT=10 SEED=1)"
METHODS = ("cellvta", "hovernet", "classical")
RECIPE = ("recipe.epochs=3", "recipe.samples=16")
EPOCHS, FOLDS = 3, 3
TIMED = ("provenance.json", "cost.json")  # these hold times, and the log another one per line
LIMIT = 1200  # seconds for one ablation
MOST = 10  # kills of one ablation


@dataclass(frozen=True)
class Site:
    """The folders of one ablation, the methods that it runs, and how many of them at once."""

    root: Path
    methods: tuple[str, ...] = METHODS
    at_once: int = 1

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def results(self) -> Path:
        return self.root / "results"

    def start(self) -> subprocess.Popen:
        """The ablation, in a group of processes of its own; what it prints goes to log.txt."""
        folders = ("--cache", self.cache, "--results", self.results, "--reports", self.root / "reports")
        grid = ("--dataset", TINY, "--preset", "debug", "--devices", f"cpu:{self.at_once}", "--folds", "1")
        grid += ("--methods", *self.methods)
        line = [sys.executable, "-m", "benchmark", "ablation", *RECIPE, *grid, *map(str, folders)]
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / "log.txt", "a") as log:
            return subprocess.Popen(
                line, stdout=log, stderr=log, cwd=ROOT, env=os.environ | threads, start_new_session=True
            )

    def names(self) -> set[str]:
        """Paths of all files below cache and results, those half-written too; a file that goes meanwhile is missed."""
        out, folders = set(), [str(self.cache), str(self.results)]
        for folder in folders:
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        out.add(entry.path)
                        if entry.is_dir():
                            folders.append(entry.path)
            except OSError:
                continue
        return out


@dataclass(frozen=True)
class Moment:
    """When to kill: `seconds` after the start, after so many changes among the files, or after a path appears.

    Attributes:
        changes: 0 for none. path: a part of its name, "" for none.
    """

    seconds: float
    changes: int = 0
    path: str = ""

    def come(self, seconds: float, changes: int, names: set[str]) -> bool:
        """Whether it is now, but for the `seconds` after a change or path."""
        if self.path:
            return any(self.path in name for name in names)
        return changes >= self.changes if self.changes else seconds >= self.seconds


def end_or_kill(site: Site, moment: Moment | None, first_alone: bool = False) -> tuple[int | None, int]:
    """Start the ablation and wait for its end, or kill it. Returns (exit code, None when killed; changes of files).

    first_alone: kill its first process; all others have to end with it.
    """
    process, began = site.start(), time.monotonic()
    known, changes = site.names(), 0
    try:
        while process.poll() is None and time.monotonic() - began < LIMIT:
            names = site.names()
            changes += names != known
            known = names
            if moment and moment.come(time.monotonic() - began, changes, names):
                if moment.changes or moment.path:
                    time.sleep(moment.seconds)
                if first_alone:
                    process.kill()
                    process.wait()
                    _all_end(process.pid)
                return None, changes
            time.sleep(0.001)
        if process.poll() is None:
            raise TimeoutError(f"the ablation in {site.root} did not end within {LIMIT} s")
        return process.poll(), changes
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _all_end(group: int, seconds: float = 10) -> None:
    """Wait until no process of a group runs. Raises AssertionError when one goes on."""
    end = time.monotonic() + seconds
    while True:
        table = subprocess.run(["ps", "-eo", "pgid,stat,args"], capture_output=True, text=True, check=True).stdout
        left = [row for row in table.splitlines()[1:] if int(row.split()[0]) == group and row.split()[1][0] != "Z"]
        if not left:
            return
        if time.monotonic() > end:
            os.killpg(group, signal.SIGKILL)
            raise AssertionError(f"processes went on without the first one: {left}")
        time.sleep(0.05)


def landed(site: Site, started: float) -> str:
    """Where a kill landed, in words, as the files show it. started: the time at which the killed ablation began."""
    for name in sorted(site.names()):
        if half := re.search(r"/\.([^/]+)\.\d+-[0-9a-f]+\.tmp$", name):
            return f"writing {re.sub(r'^[a-z]+-[0-9a-f]{16}', 'pretext', half[1])}"
    folds = [p for p in site.cache.glob("*/meta.json") if p.parent.suffix != ".partial"] if site.cache.exists() else []
    if len(folds) < FOLDS:
        return "preparing the data" if _since(site.cache, started) else "starting, or starting a cell"
    runs = {folder.path.parent.name.partition("@")[0]: folder for folder in run_folders(site.results)}
    method = next((m for m in site.methods if m not in runs or not runs[m].complete), None)
    if method is None:
        return "printing the tables"
    if method not in runs or not _since(runs[method].owner, started):
        return "starting, or starting a cell"
    if method == "cellvta" and not list(site.cache.glob("pretrain/*.json")):
        return "pretext"
    return _within(runs[method], method, started)


def _since(path: Path, started: float) -> bool:
    """Whether a file, or a folder's list of entries, is new or changed since then."""
    return path.exists() and path.stat().st_mtime > started


def _within(folder: RunFolder, method: str, started: float) -> str:
    if any(_since(path, started) for path in (*folder.records, folder.predictions)):
        return "storing"
    if method == "classical":
        return "test"
    if folder.next_weights.exists():
        return "between two files of a checkpoint"
    epochs = len(folder.log.read_text().splitlines()) if folder.log.exists() else 0
    return "training, first epoch" if not epochs else "training, later epochs" if epochs < EPOCHS else "test"


def differences(whole: Site, broken: Site) -> list[str]:
    """Files of two ablations that are not the same, by name; those TIMED may differ in content."""
    out = []
    for part in ("cache", "results"):
        one, other = _files(whole.root / part), _files(broken.root / part)
        out += [f"{part}/{name} stands on one side only" for name in sorted(one.keys() ^ other.keys())]
        for name in sorted(one.keys() & other.keys()):
            if content(one[name]) != content(other[name]):
                out.append(f"{part}/{name} differs")
    return out + [f"{f}: {v.why}" for f in run_folders(broken.results) if (v := verify(f)).name != "whole"]


def _files(folder: Path) -> dict[str, Path]:
    return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}


def content(path: Path):
    """What must be the same in every repetition of a file."""
    if path.name in TIMED:
        return None
    if path == RunFolder(path.parent).card:  # the command in it names the folders
        command = read_json(RunFolder(path.parent).provenance)["command"]
        return path.read_text().replace(command, "", 1)
    if path.name == "log.jsonl":
        return [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]
    if path.parent.name == "pretrain" and path.suffix == ".json":
        return read_json(path) | {"seconds": 0, "checksum": ""}
    return path.read_bytes()


def run(count: int, seed: int, root: Path, methods: tuple[str, ...] = METHODS, at_once: int = 1) -> int:
    """Kill the ablation `count` times; prints the figures, returns the exit code."""
    rng = random.Random(seed)
    whole, began = Site(root / "whole", methods, at_once), time.monotonic()
    code, changes = end_or_kill(whole, None)
    duration = time.monotonic() - began
    if code:
        print(f"the unbroken ablation ended with exit code {code}:\n{(whole.root / 'log.txt').read_text()[-3000:]}")
        return 1
    print(f"unbroken: {duration:.0f} s, {changes} changes among its files", file=sys.stderr, flush=True)
    files = len(whole.names())
    places, faults, rounds = collections.Counter(), [], []
    killed, began, left = 0, time.monotonic(), count
    while left:
        site = Site(root / f"round{len(rounds)}", methods, at_once)
        kills = 0
        while True:  # until this round's ablation has ended
            moment = None
            if left and kills < MOST:
                rest = max(0.4, 1 - len(site.names()) / files)  # starting takes its time again
                at_file = Moment(rng.choice((0, 0.002, 0.02)), rng.randint(1, round(changes * rest)))
                moment = at_file if killed % 3 else Moment(rng.uniform(0, duration * rest))
                if not kills and not len(rounds) % 3:
                    moment = Moment(rng.uniform(0, duration / 8), path="/pretrain/")
            started = time.time()
            code, _ = end_or_kill(site, moment, first_alone=at_once > 1 and killed % 2 == 1)
            if code is not None:
                break
            places[landed(site, started)] += 1
            killed, kills, left = killed + 1, kills + 1, left - 1
            spent = time.monotonic() - began
            ahead = f"about {spent / killed * left:.0f} s left" if left else "last round ends"
            print(f"{killed} of {count} kills, {spent:.0f} s, {ahead}", file=sys.stderr, flush=True)
        found = [f"exit code {code}: {(site.root / 'log.txt').read_text()[-3000:]}"] if code else []
        found = found or differences(whole, site)
        rounds.append(kills)
        faults += [f"round {len(rounds)}, after {kills} kills: {fault}" for fault in found]
    same = len(_files(whole.root / "cache")) + len(_files(whole.root / "results"))
    print(f"{'killed while':44}{'kills':>6}")
    for place, number in sorted(places.items()):
        print(f"{place:44}{number:6}")
    print(f"{'all':44}{sum(places.values()):6}")
    print(
        f"{len(rounds)} ablations of {len(methods)} cells, {same} files each, compared with the unbroken one: "
        f"{len(faults)} differences"
    )
    print("\n".join(faults))
    return int(bool(faults))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100, help="kills (default 100: 20 to 30 minutes on one core)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--at-once", type=int, default=1, help="cells that run at once (default 1)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(chosen.count, chosen.seed, Path(folder), at_once=chosen.at_once))

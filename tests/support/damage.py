"""`python -m tests.support.damage [--each N] [--seed S]`: every file of a finished run damaged, and what reads it then.

A small study is drawn, prepared and learnt; then each file of the finished run, of an unfinished one, of the prepared
data and of the pretext's weights has N times a bit flipped, N times its end cut off, and is once removed. After each
damage what reads the file is called, what takes seconds after every fifth to fiftieth. The end must be
`named`: refused in one sentence that names the file or its folder, or left out with a line that names it; or
`harmless`: the same result as before the damage. Prints the ends by file; exit code 1 when one was neither.
"""

import argparse
import collections
import hashlib
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from benchmark.cli import main
from benchmark.data.sources import synthetic
from benchmark.results import frames
from benchmark.results.run_folder import RunFolder
from benchmark.training import loop, pretrain
from tests.support import tiny_data
from tests.support.ending import Ending, ending, heed_alarms

EXAMPLE = "example: python -m tests.support.damage --each 5 --seed 1 (or: make damage EACH=5 SEED=1)"
ENDS = ("named", "harmless", "not named", "other numbers", "tracebacks", "hangs")
RIGHT = ("named", "harmless")
LIMIT = 120  # seconds for one call
METHOD, SIDE = "cellvta", 64
LEARNT = ("recipe.epochs=16", "recipe.samples=32", "recipe.eval_every=8", "recipe.optimiser.lr=1e-2")  # bPQ above 0
SHORT = ("recipe.epochs=2", "recipe.samples=8")


@dataclass(frozen=True)
class Reader:
    """A command or function that reads files of a study.

    Attributes:
        call: reads; returns an exit code, or the value of a function.
        written: folder or file that it writes, which belongs to its result and is removed before each call.
        speaks_of_files: its result is about the files themselves, so that other numbers in it are sizes.
        every: after how many damages of a file it is called once; more than 1 where it takes seconds.
    """

    name: str
    call: Callable[[], object]
    written: Path | None = None
    speaks_of_files: bool = False
    every: int = 1

    def read(self) -> tuple[Ending, str]:
        """(how the call ended, its result as text)."""
        if self.written and self.written.is_dir():
            shutil.rmtree(self.written)
        end = ending(self.call, LIMIT)
        value = "" if end.value is None or isinstance(end.value, int) else str(end.value)
        return end, "\n".join([end.out, value, *_texts(self.written)])


def _texts(written: Path | None) -> Iterator[str]:
    """What a reader wrote: scores and tables as text, pictures and weights as their hash; not what holds times."""
    if written is None or not written.exists():
        return
    for path in sorted(written.rglob("*")) if written.is_dir() else [written]:
        if path.suffix == ".csv" or path.name == "metrics.json":
            yield path.read_text()
        elif path.suffix in (".png", ".safetensors"):
            yield hashlib.sha256(path.read_bytes()).hexdigest()


class Study:
    """A finished run with kept maps, an unfinished one, their data and weights, all below one folder."""

    def __init__(self, root: Path):
        self.root, self.cache, self.results = root, root / "cache", root / "results"
        self.unfinished, self.scratch = root / "unfinished", root / "scratch"
        self.data = ("--dataset", "folder", "--data-root", _drawn(root / "study"))
        for method in (METHOD, "classical"):
            _must(self._run(self.results, method, "--keep-maps", *LEARNT))
        with mock.patch.object(loop, "save", _stopping(loop.save)):
            _must(self._run(self.unfinished, METHOD, *SHORT), code=130)
        self.run, self.stopped = (self._folder(results) for results in (self.results, self.unfinished))

    def _run(self, results: Path, method: str, *words) -> Callable[[], object]:
        line = ("--method", method, "--preset", "debug", "--fold", 1, "--device", "cpu", "--results", results, *words)
        return _command("run", *line, "--cache", self.cache, *self.data)

    def _folder(self, results: Path) -> RunFolder:
        (path,) = results.glob(f"*/{METHOD}*/*")
        return RunFolder(path)

    def files(self) -> dict[Path, list[Reader]]:
        """What is damaged, and what reads it."""
        of_run, of_data, resumed = self._of_run(), self._of_data(), self._resumed()
        out = {}
        for path in sorted(self.run.path.iterdir()):
            if not path.name.startswith("."):
                out[path] = of_run
        for path in sorted(self.stopped.path.iterdir()):
            if not path.name.startswith("."):
                out[path] = resumed
        for path in sorted(self.cache.glob("*/*.npy")) + sorted(self.cache.glob("*/meta.json")):
            out[path] = of_data
        for path in sorted(self.cache.glob("pretrain/nano-*")):
            if path.suffix != ".lock":
                out[path] = [Reader("pretext", self._pretext)]
        return out

    def _of_run(self) -> list[Reader]:
        run, reports, scratch = self.run.path, self.root / "reports", self.scratch
        shown = ("--results", self.results, "--reports", reports)
        picture, decoded, scores = scratch / "sheet.png", scratch / "grid", scratch / "scores"
        again = ("--cache", self.cache, *self.data)
        truth = self.results.joinpath(*run.relative_to(self.results).parts[:1], "classical@debug", run.name)
        score = ("score", "--true", truth, "--mpp", 0.25, "--out", scores)
        return [
            Reader("status", self._status(self.results, LEARNT), speaks_of_files=True),
            Reader("verify", lambda: main(["verify", str(run)]) * 0, speaks_of_files=True),
            Reader("load", lambda: _shown(frames.load(run))),
            Reader("table", _command("table", *shown), reports, every=5),
            Reader("score", _command(*score, "--pred", run), scores),
            Reader("contact-sheet", _command("contact-sheet", "--run", run, "--out", picture, *again), picture),
            Reader("report", _command("report", *shown), reports, every=50),
            Reader("evaluate", self._evaluate(), scratch / "evaluated", every=50),
            Reader(
                "postprocess", _command("postprocess", "--run", run, "--reports", decoded, *again), decoded, every=50
            ),
        ]

    def _of_data(self) -> list[Reader]:
        run, scratch = self.run.path, self.scratch
        data = ("--cache", self.cache, *self.data)
        stored, picture, decoded = scratch / "imported", scratch / "sheet.png", scratch / "grid"
        line = ("import", "--name", "tool", "--pred", self.run.predictions, "--results", stored)
        sheet = ("contact-sheet", "--run", run, "--out", picture)
        return [
            Reader("import", _command(*line, *data), stored),
            Reader("contact-sheet", _command(*sheet, *data), picture, every=5),
            Reader(
                "postprocess", _command("postprocess", "--run", run, "--reports", decoded, *data), decoded, every=50
            ),
            Reader("run", self._run(scratch / "classical", "classical"), scratch / "classical", every=25),
        ]

    def _resumed(self) -> list[Reader]:
        """`status` and the end of the unfinished run, of a copy of its folder."""
        results = self.scratch / "resumed"

        def resume():
            shutil.copytree(self.unfinished, results)
            return self._run(results, METHOD, *SHORT)()

        return [
            Reader("status", self._status(self.unfinished, SHORT), speaks_of_files=True),
            Reader("resume", resume, results, every=25),
        ]

    def _status(self, results: Path, recipe: tuple[str, ...]) -> Callable[[], object]:
        words = ("--methods", METHOD, "--preset", "debug", "--folds", 1, "--device", "cpu", "--results", results)
        return _command("status", *recipe, *words, "--cache", self.cache, *self.data)

    def _evaluate(self) -> Callable[[], object]:
        words = ("--weights", self.run.path, "--fold", 1, "--device", "cpu", "--out", self.scratch / "evaluated")
        return _command("evaluate", *words, "--cache", self.cache, *self.data)

    def _pretext(self) -> str:
        made = pretrain.ensure("nano", self.cache, updates=2, progress=False)
        return hashlib.sha256(made.path.read_bytes()).hexdigest()


def _drawn(folder: Path) -> Path:
    """A folder data set of twelve drawn images in three folds; one nucleus of mixed type is in each."""
    for k in range(12):
        sample = synthetic.draw(("Breast", "Colon")[k % 2], k, 0, size=SIDE)
        types = np.concatenate([[0], sample.nuclei.types])[sample.nuclei.instances]
        types[tuple(np.argwhere(sample.nuclei.instances == 1)[:4].T)] = 5
        parts = {"images": sample.image, "labels": sample.nuclei.instances.astype(np.uint16), "types": types}
        for part, array in parts.items():
            path = folder / part / f"c{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8) if part == "types" else array).save(path)
    names = ", ".join(f'"{name}"' for name in synthetic.CLASSES)
    (folder / "dataset.toml").write_text(
        f'classes = [{names}]\nmpp = 0.25\nname = "study"\npatch = {SIDE}\nfolds = 3\n'
    )
    rows = [(f"c{k}.png", k % 3 + 1, f"s{k}") for k in range(12)]
    tiny_data.table(folder / "images.csv", ["file", "fold", "source"], rows)
    return folder


def _command(*words) -> Callable[[], object]:
    return lambda: main([str(word) for word in words])


def _must(call: Callable[[], object], code: int = 0) -> None:
    """Raises RuntimeError unless the command ends with this exit code."""
    end = ending(call, LIMIT)
    if end.value != code:
        raise RuntimeError(f"exit code {end.value} instead of {code}: {end.err[-3000:]}")


def _stopping(save: Callable) -> Callable:
    """`training.loop.save`, which ends the process as Ctrl-C does."""

    def saving(state, job):
        save(state, job)
        raise KeyboardInterrupt

    return saving


def _shown(loaded: frames.Frames) -> str:
    return "\n".join(table.to_csv() for table in loaded)


def damages(content: bytes, each: int, rng: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """(what is done, the damaged content; None for a file that is removed)."""
    for _ in range(each):
        at, bit = rng.randrange(len(content)), rng.randrange(8)
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        yield f"bit {bit} of byte {at} flipped", bytes(flipped)
    for _ in range(each):
        size = rng.randrange(len(content))
        yield f"cut to {size} bytes", content[:size]
    yield "removed", None


def judged(path: Path, end: Ending, result: str, whole: str, reader: Reader, root: Path) -> str:
    """Which of ENDS it is."""
    if end.kind in ("tracebacks", "hangs"):
        return end.kind
    plain = result.replace(str(root), "")
    if end.kind == "results" and plain == whole:
        return "harmless"
    if end.kind == "results" and not reader.speaks_of_files and _numbers(plain) - _numbers(whole):
        return "other numbers"
    text = f"{end.out}\n{end.err}"
    named = any(word in text for word in (path.name, str(path.parent), path.stem))
    return "named" if named and end.kind in ("refusals", "results") else "not named"


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+", text))


def run(each: int, seed: int, root: Path, only: str = "") -> int:
    """Damage all files whose kind holds `only`; prints the figures, returns the exit code."""
    heed_alarms()
    study, rng = Study(root), random.Random(seed)
    files = {path: readers for path, readers in study.files().items() if only in _kind(path, study)}
    wholes = {}
    for reader in {id(r): r for readers in files.values() for r in readers}.values():
        end, result = reader.read()
        if end.kind != "results":
            raise RuntimeError(f"{reader.name} of the whole files: {end.kind}: {end.err[-3000:]}")
        wholes[id(reader)] = result.replace(str(root), "")
        _, again = reader.read()
        if wholes[id(reader)] != again.replace(str(root), ""):
            raise RuntimeError(f"{reader.name} of the whole files: two calls differ")
    table, faults = collections.defaultdict(collections.Counter), []
    total, done, began = len(files) * (2 * each + 1), 0, time.monotonic()
    for path, readers in files.items():
        content = path.read_bytes()
        for k, (what, damaged) in enumerate(damages(content, each, rng)):
            for reader in readers:
                if k % reader.every and damaged is not None:
                    continue
                path.unlink(missing_ok=True) if damaged is None else path.write_bytes(damaged)
                end, result = reader.read()
                judgement = judged(path, end, result, wholes[id(reader)], reader, root)
                table[_kind(path, study)][judgement] += 1
                if judgement not in RIGHT:
                    faults.append(f"{path.relative_to(root)} {what}, {reader.name}: {judgement}\n{end.err[-1500:]}")
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            done += 1
        left = (time.monotonic() - began) / done * (total - done)
        print(
            f"{path.relative_to(root)}: {done} of {total} damages, about {left:.0f} s left", file=sys.stderr, flush=True
        )
    print(f"{'file':44}{'damages':>9}{'calls':>8}" + "".join(f"{name:>15}" for name in ENDS))
    damaged = collections.Counter(_kind(path, study) for path in files)
    damaged = {kind: number * (2 * each + 1) for kind, number in damaged.items()}
    rows = [*((kind, damaged[kind], counts) for kind, counts in table.items())]
    for kind, number, counts in [*rows, ("all", total, sum(table.values(), collections.Counter()))]:
        print(f"{kind:44}{number:9}{counts.total():8}" + "".join(f"{counts[name]:15}" for name in ENDS))
    print("\n".join(faults))
    return int(bool(faults))


def _kind(path: Path, study: Study) -> str:
    """The kind of a file, under which it is counted."""
    if path.parent == study.run.path:
        return f"finished run: {path.name}"
    if path.parent == study.stopped.path:
        return f"unfinished run: {path.name}"
    return f"pretext: {path.suffix}" if path.parent.name == "pretrain" else f"prepared data: {path.name}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", type=int, default=50, help="flipped bits and truncations of each file (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="of their places (default 0)")
    parser.add_argument("--only", default="", help="files whose kind in the table holds this text")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(chosen.each, chosen.seed, Path(folder), chosen.only))

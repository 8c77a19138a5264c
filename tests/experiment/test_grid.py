"""States of cells, the missing ones run, the lock, tables at the end."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from benchmark.cli import main
from benchmark.experiment import launch
from benchmark.experiment.grid import cells
from benchmark.experiment.launch import status
from benchmark.experiment.launchers import base
from benchmark.experiment.request import Request
from benchmark.experiment.run import Attempt
from benchmark.experiment.state import TO_RUN, State, state_of
from benchmark.methods.registry import method_class
from benchmark.results import collect
from benchmark.results.card import card
from benchmark.results.collect import finished
from benchmark.results.run_folder import RunFolder, run_folders
from benchmark.runtime import distributed
from benchmark.runtime.files import write_json
from tests.support.grids import setup
from tests.support.tiny_data import TINY, file_bytes

RECIPE = ("recipe.epochs=1",)


def states(made):
    return {str(c.spec): state_of(c) for c in made}


def test_ablation_runs_every_cell_and_prints_the_table(ablation):
    done = ablation.done
    assert done.returncode == 0, done.stderr
    assert "decoder_only" in done.stdout and "classical" in done.stdout and "bPQ" in done.stdout
    for folder in [p.parent for p in ablation.results.rglob("metrics.json")]:
        names = {p.name for p in folder.iterdir()}
        assert {"config.json", "cost.json", "provenance.json", "predictions.npz", "images.parquet"} <= names
        assert "checkpoint.pt" not in names and "owner.txt" not in names
        story = json.loads((folder / "provenance.json").read_text())
        assert "ablation" in story["command"] and story["hardware"]["cpu"] and story["started"] <= story["finished"]
        assert story["licences"]["code"].startswith("Apache-2.0") and story["licences"]["weights"] is None
        text = (folder / "card.md").read_text()
        assert "`Apache-2.0, as the code that draws them`" in text and text == card(finished(folder))
    assert all(list(ablation.reports.rglob(f"*.{suffix}")) for suffix in ("csv", "tex", "md"))


def test_second_ablation_does_nothing(ablation, command_here):
    again = command_here("ablation", *ablation.words, results=ablation.results)
    assert again.returncode == 0
    assert "Nothing to run: 2 of 2 cells are done" in again.stderr


def test_same_seed_same_bytes(ablation, command_here, tmp_path):
    done = command_here("run", "--method", "decoder_only", *RECIPE, results=tmp_path)
    assert done.returncode == 0, done.stderr
    name = "decoder_only@debug,recipe.epochs=1/fold1-seed0/metrics.json"
    assert (tmp_path / TINY / name).read_bytes() == (ablation.results / TINY / name).read_bytes()


def test_states(ablation, cache, monkeypatch):
    chosen = ["decoder_only", "classical", "cellvta"]
    assert states(cells(setup(ablation.results, cache), chosen)) == {
        "decoder_only@debug": ("done", ""),
        "classical@debug": ("done", ""),
        "cellvta@debug": ("missing", "not run yet"),
    }
    changed = setup(ablation.results, cache, overrides=(("epochs", 1), ("optimiser.lr", 0.5)))
    found = states(cells(changed, chosen))
    assert found["decoder_only@debug"][0] == "missing", "another setting is another cell"
    assert found["classical@debug"][0] == "done", "the classical baseline has no recipe"
    monkeypatch.setattr(method_class("decoder_only"), "version", 99)
    found = states(cells(setup(ablation.results, cache), chosen))
    assert found["decoder_only@debug"][0] == "stale" and "method_version: 1 -> 99" in found["decoder_only@debug"][1]


def test_a_result_is_done_only_with_the_identity_of_its_cell(tmp_path, cache):
    (cell,) = cells(setup(tmp_path, cache), ["decoder_only"])
    parts = json.loads(json.dumps(cell.identity))
    deciding = ("method_version", "kind", "backbone", "dataset", "fold", "seed", "records")
    assert {*deciding, "method", "arguments", "recipe", "data"} <= parts.keys()
    left_out = cell.recipe.as_dict().keys() - parts["recipe"].keys()
    later = {
        "accumulate",
        "deterministic",
        "compile",
        "graph",
        "shares",
    }  # fields that came later, at the values that leave every result as it was
    assert left_out == {"recompute", "workers", "eval_batch"} | later, "how a result is computed changes nothing"

    def state(**changes):
        write_json(cell.folder.metrics, {"identity": parts | changes})
        return state_of(cell)[0]

    assert state() == "done"
    for name in deciding:
        assert state(**{name: "another"}) == "stale", name
    assert state(recipe=parts["recipe"] | {"epochs": 7}) == state(arguments={"points": 1}) == "stale"


def test_which_cells_are_run(monkeypatch):
    class Fake:
        setup, spec, split, seed, overrides = setup("results", "cache"), "made", 1, 0, ()
        folder = RunFolder(Path("results/none"))

        def __init__(self, state):
            self.run, self.state = state, lambda: State(state, "")

    class Every:
        waits = True

        def submit(self, jobs):
            for job in jobs:
                ran.append(job.command())
                yield job, len(ran) % 2

    made = [Fake(state) for state in ("done", "stale", "missing", "partial", "failed", "skipped", "running")]
    assert set(TO_RUN) < {cell.run for cell in made}
    ran = []
    for module in (launch, base):
        monkeypatch.setattr(module, "state_of", lambda cell, **_: cell.state())

    def calls(**options):
        ran.clear()
        return launch.run_missing(made, Every(), **options), len(ran)

    assert calls() == (2, 3), "missing, partial, failed; the first and the third fail"
    assert calls(stale=True) == (2, 4)
    assert calls(shard=(0, 2)) == (1, 2) and calls(shard=(1, 2)) == (1, 1), "cells 0, 2, 4, 6 and 1, 3, 5"
    ((*words, request),) = ran
    assert words == [sys.executable, "-m", "benchmark", "run", "--request"]
    asked = Request.from_text(request)
    assert (asked.method, asked.split, asked.seed, asked.keep_maps) == ("made", 1, 0, False)
    assert vars(asked.setup) == vars(setup(Path("results"), Path("cache")))
    calls(shard=(1, 2), keep_maps=True)
    assert Request.from_text(ran[0][-1]).keep_maps


def test_partial_failed_running_and_skipped(tmp_path, cache):
    base = setup(tmp_path, cache)
    partial, failed, running, gated = cells(base, ["cellvta", "cellvit", "hovernet", "cellvta@paper"])
    for cell in (partial, failed, running):
        cell.folder.path.mkdir(parents=True)
    partial.folder.checkpoint.write_bytes(b"x")
    partial.folder.log.write_text("")
    write_json(partial.folder.config, {"key": partial.key})
    failed.folder.failed.write_text("Traceback\nValueError: here\n")
    running.folder.owner.write_text("host pid 1\n")
    holder = running.folder.lock()
    with holder:
        found = states([partial, failed, running, gated])
    assert found["cellvta@debug"] == ("partial", "0 of 1 epochs; resumes")
    write_json(partial.folder.config, {"key": "another"})
    assert "starts over" in state_of(partial).why
    assert found["cellvit@debug"] == ("failed", "ValueError: here")
    assert found["hovernet@debug"] == ("running", "owner host pid 1")
    assert found["cellvta@paper"][0] == "skipped" and "uni" in found["cellvta@paper"][1].lower()
    assert "1 partial" in status([partial, failed])


def test_a_running_cell_is_not_run_twice(benchmark_command, tmp_path, cache):
    (cell,) = cells(setup(tmp_path, cache), ["classical"])
    with cell.folder.lock():
        refused = benchmark_command("run", "--method", "classical", *RECIPE, results=tmp_path)
    assert refused.returncode == 2 and "running already" in refused.stderr


def test_a_stale_result_is_moved_aside_and_run_anew(command_here, tmp_path, monkeypatch):
    words = ("--method", "decoder_only", *RECIPE)
    first = command_here("run", *words, results=tmp_path)
    assert first.returncode == 0, first.stderr
    (folder,) = (path.parent for path in tmp_path.rglob("metrics.json"))
    old, key = file_bytes(folder), json.loads((folder / "metrics.json").read_text())["key"]
    monkeypatch.setattr(method_class("decoder_only"), "version", 99)
    again = command_here("run", *words, results=tmp_path)
    assert again.returncode == 0 and "running anew" in again.stderr and "epoch 1/1" in again.stderr
    aside = tmp_path / "_stale" / folder.relative_to(tmp_path).parent / f"{folder.name}-{key}"
    assert file_bytes(aside) == old, "nothing of it is lost"
    assert json.loads((folder / "metrics.json").read_text())["key"] != key
    assert [run.folder for run in collect.runs(tmp_path)] == [folder], "what was moved aside is no run"
    assert [one.path for one in run_folders(tmp_path)] == [folder]


def test_what_another_configuration_left_is_moved_aside_before_the_new_one_is_named(tmp_path, cache):
    """Killed before its first epoch ends, the new attempt must not seem to have the old one's epochs."""
    (cell,) = cells(setup(tmp_path, cache), ["decoder_only"])
    cell.folder.path.mkdir(parents=True)
    for path in (cell.folder.checkpoint, cell.folder.log):
        path.write_text("of another configuration")
    write_json(cell.folder.config, {"key": "another"})
    attempt = Attempt(cell, None, distributed.start("cpu"), keep_maps=False)
    assert attempt.task() == "run"
    assert not cell.folder.checkpoint.exists() and not cell.folder.log.exists()
    assert state_of(cell).name == "missing"
    (aside,) = (path.parent for path in (tmp_path / "_stale").rglob("checkpoint.pt"))
    assert aside.name == "fold1-seed0-unknown" and (aside / "log.jsonl").read_text() == "of another configuration"


def test_two_looks_at_a_lock_do_not_see_each_other(tmp_path, cache):
    (cell,) = cells(setup(tmp_path, cache), ["classical"])
    taken = threading.Event()

    def look():
        with cell.folder.lock():
            taken.set()
            time.sleep(0.03)

    other = threading.Thread(target=look)
    other.start()
    assert taken.wait(10) and not cell.folder.held(), "a lock that is held for a moment is no run"
    other.join()


@pytest.mark.parametrize("ends", ["running", "done"])
def test_a_cell_that_another_grid_takes_first_is_no_failure(tmp_path, cache, capsys, ends):
    (cell,) = cells(setup(tmp_path, cache), ["classical"])
    other = cell.folder.lock()

    class Refused:
        waits = True

        def submit(self, jobs):
            other.acquire()
            if ends == "done":
                write_json(cell.folder.metrics, {"identity": cell.identity})
            yield jobs[0], 2

    with other:
        other.release()
        assert launch.run_missing([cell], Refused()) == 0
    told = capsys.readouterr().err
    assert f"{ends}: {cell.run}" in told and "0 of 1 cells ran" in told


def test_failed_write_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    write_json(tmp_path / "a.json", {"v": 1})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / "a.json", {"v": 2})
    assert caught.value.filename == str(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"v": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_dead_owners_lock_counts_for_nothing(tmp_path, cache):
    (cell,) = cells(setup(tmp_path, cache), ["classical"])
    cell.folder.path.mkdir(parents=True)
    hold = "import filelock, sys, time; lock = filelock.FileLock(sys.argv[1]); lock.acquire()"
    hold += "; print('held', flush=True); time.sleep(99)"
    line = [sys.executable, "-c", hold, cell.folder.path / ".lock"]
    owner = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "held\n"
    assert state_of(cell)[0] == "running"
    owner.kill()
    owner.communicate()
    assert state_of(cell)[0] == "missing"


@pytest.mark.parametrize("content", ["[]", '{"identity": 3}', "{", ""])
def test_a_damaged_result_is_said_and_replaced(tmp_path, cache, content):
    (cell,) = cells(setup(tmp_path, cache), ["classical"])
    cell.folder.path.mkdir(parents=True)
    cell.folder.metrics.write_text(content)
    state, why = state_of(cell)
    assert state == "failed" and "damaged" in why


def test_stale_results_need_what_they_were_made_with(tmp_path, cache):
    (cell,) = cells(setup(tmp_path, cache), ["cellvta@paper"])
    write_json(cell.folder.metrics, {"identity": {"backbone": "uni.bin:abc"}})
    state, why = state_of(cell)
    assert state == "skipped" and "stale" in why, "random weights must not replace a result of UNI unasked"


def test_input_errors_leave_their_reason(command_here, tmp_path, cache):
    """One that only the training's data show: all that is seen before is refused before there is a folder."""
    words = ["--method", "hovernet@debug", *RECIPE, "recipe.batch=64", "recipe.accumulate=64", "recipe.samples=none"]
    done = command_here("run", *words, results=tmp_path)
    assert done.returncode == 2 and "recipe.accumulate is 64, but a process has" in done.stderr, done.stderr
    (failed,) = tmp_path.rglob("failed.txt")
    assert "recipe.accumulate is 64" in failed.read_text()


def test_a_misfit_of_the_encoder_leaves_no_folder(command_here, tmp_path, cache):
    torch.save({"blocks.0.attn.qkv.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    words = ["--method", "decoder_only@debug", "--backbone", str(tmp_path / "other.pth")]
    done = command_here("run", *words, *RECIPE, results=tmp_path / "results")
    assert done.returncode == 2 and "do not fit backbone" in done.stderr, done.stderr
    assert not [path for path in (tmp_path / "results").rglob("*") if path.is_file()]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="names open files by /proc")
@pytest.mark.parametrize("name", ["config.json", "cost.json", "predictions.npz"])
def test_a_full_disk_names_the_file_that_could_not_be_written(tmp_path, cache, monkeypatch, capsys, name):
    refusing(monkeypatch, name, "failed.txt")
    words = [
        "run",
        "--method",
        "classical",
        "--dataset",
        TINY,
        *RECIPE,
        "--results",
        str(tmp_path),
        "--cache",
        str(cache),
    ]
    assert main([*words, "--device", "cpu", "--preset", "debug"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert name in error and "failed.txt" not in error and "No space left" in error


def test_status_writes_nothing(tmp_path, cache, monkeypatch, capsys):
    results = tmp_path / "results"
    words = ["status", "--methods", "classical", "--dataset", TINY, "--results", str(results), "--cache", str(cache)]
    assert main(words) == 0 and "missing" in capsys.readouterr().out
    assert not results.exists()
    (cell,) = cells(setup(results, cache), ["classical"])
    cell.folder.path.mkdir(parents=True)
    (cell.folder.path / ".lock").touch()
    denied = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr("filelock.FileLock.acquire", lambda *_, **__: (_ for _ in ()).throw(denied))
    assert not cell.folder.held()  # to be read only, and nobody's
    cell.folder.owner.write_text("host pid 1")
    assert cell.folder.held()
    (tmp_path / "file").touch()
    assert main([*words[:6], str(tmp_path / "file"), *words[7:]]) == 2


def refusing(monkeypatch, *names):
    """Files of these names cannot be written: the disk is full."""
    real = os.fsync

    def full(handle):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        if any(word in name for word in names):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle)

    monkeypatch.setattr(os, "fsync", full)


def test_interrupted_writes_are_swept_up(command_here, tmp_path, cache):
    (cell,) = cells(setup(tmp_path, cache), ["classical"])
    cell.folder.path.mkdir(parents=True)
    (cell.folder.path / ".checkpoint.pt.1.tmp").write_bytes(b"half")
    done = command_here("run", "--method", "classical", *RECIPE, results=tmp_path)
    assert done.returncode == 0 and not list(cell.folder.path.glob(".*.tmp"))

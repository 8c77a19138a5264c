"""The speed scripts on a CPU at the smallest scale; perf/gpu_check.sh with a stand-in for Python."""

import csv
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark.methods import registry
from benchmark.ops import ms_deform_attn
from benchmark.runtime.paths import ROOT
from benchmark.training.scales import SCALES


def script(name: str, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "perf" / name), *words],
        capture_output=True, text=True, env=environment, cwd=ROOT, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def loaded(name: str):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"perf/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_training_step_is_measured_and_written(tmp_path):
    text = script("train_step.py", "--scale", "debug", "--steps", "2", "--parts", "goal", "--out", str(tmp_path))
    rows = {row["what"]: row for row in rows_of(tmp_path / "train_step.csv")}
    assert [*rows] == ["as published, grid_sample", "as published, our op", "as the harness trains"]
    harness = rows["as the harness trains"]
    assert float(harness["ratio"]) == 1 and harness["steps"] == "2" and harness["batch"] == "4"
    for row in rows.values():
        assert not row["note"] and float(row["images_per_s"]) > 0 and 0 < float(row["of_peak"])
        assert row["hardware"] and row["torch"] == torch.__version__ and "train_step.py" in row["command"]
        # the same network, data and order: what is changed about the step changes no result
        assert float(row["loss"]) == pytest.approx(float(harness["loss"]), rel=0.2)
    assert "1.00x" in text


def test_the_ways_of_a_step_on_a_cpu_compute_the_same(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "perf"))
    cpu = loaded("cpu_step")
    monkeypatch.setattr(cpu.memory, "keep_freed", lambda: kept.append(True))
    method, images, kept = registry.build("cellvta@debug", 5, 19).eval(), torch.rand(1, 3, 64, 64), []
    with torch.no_grad():
        expected = method(images)
        for changes in cpu.CHANGES.values():
            with cpu.method_as(method, changes):
                for name, values in method(images).items():
                    torch.testing.assert_close(values, expected[name], rtol=1e-4, atol=1e-4)
    assert kept == [True] and method.decoder.forward.__func__ is type(method.decoder).forward  # all is put back


@pytest.mark.slow
def test_a_step_on_a_cpu_is_measured_in_processes_of_its_own(tmp_path):
    script("cpu_step.py", "--scale", "debug", "--turns", "1", "--calls", "1", "--out", str(tmp_path))
    rows = rows_of(next(tmp_path.glob("*_cpu_step.csv")))
    assert [row["way"] for row in rows] == 2 * ["as published", "skips once", "and our op", "and freed memory kept"]
    for row in rows:
        assert float(row["seconds"]) > 0 and 0 < float(row["arithmetic"]) < 1
        assert row["pass"] in ("forward", "step") and "cpu_step.py" in row["command"]
    assert rows[0]["ratio"] == rows[4]["ratio"] == "1.0"


def test_the_floor_of_a_step_is_added_up_without_a_gpu():
    text = script("step_floor.py", "--method", "cellvta@debug", "--batch", "2", "--lines", "5")
    lines = {line.split()[0]: line.split() for line in text.splitlines()[:4]}
    assert [*lines] == ["forward", "loss", "backward", "step"]
    (ahead, back, whole) = (float(lines[part][1]) for part in ("forward", "backward", "step"))
    assert 0 < ahead < back < whole and whole == pytest.approx(ahead + back, rel=0.2)
    module = loaded("step_floor")
    floors = module.Floors(1.0, 1.0)
    module.step("hovernet@debug", 1, floors)
    method = registry.build("hovernet@debug", module.CLASSES, module.TISSUES)
    side = method.input_side(SCALES["paper"].crop)
    with FlopCounterMode(display=False) as counter:
        sum(v.mean() for v in method(torch.rand(1, 3, side, side)).values()).backward()
    # by torch's own counter; the gradients of the HV maps in the loss are convolutions too, a thousandth of all
    assert sum(one.work for one in floors.sums.values()) == pytest.approx(counter.get_total_flops(), rel=2e-3)


@pytest.mark.slow
def test_a_cut_run_keeps_what_it_measured(tmp_path):
    text = script("train_step.py", "--scale", "debug", "--steps", "1", "--limit", "0", "--out", str(tmp_path))
    assert text.count("not run, the time is up") > 5 and not (tmp_path / "train_step.csv").exists()


@pytest.mark.slow  # a process for each row
def test_memory_and_gradients_of_an_update_are_measured():
    lines = script("memory_levers.py", "--scale", "debug", "--methods", "cellvit", "--updates", "1").splitlines()
    rows = {line[16:44].strip(): [float(word) for word in line[44:].split()] for line in lines[1:]}
    assert len(rows) == 9 and all(len(row) == 4 for row in rows.values())
    assert rows["recipe.recompute=true"][2:] == [0, 0] and rows["recipe.accumulate=8"][0] < rows["as it is"][0]
    assert rows["recipe.accumulate=8"][3] < 1e-3 < min(rows["recipe.accumulate=8"][2], rows["2 processes"][3])


@pytest.mark.slow
def test_inference_is_measured_on_nuclei_of_pannuke_s_density(tmp_path):
    text = script("inference.py", "--scale", "debug", "--images", "8", "--distinct", "4", "--out", str(tmp_path))
    rows = rows_of(tmp_path / "inference.csv")
    assert [float(row["ratio"]) > 0 for row in rows] == [True] * 3 and rows[0]["ratio"] == "1.0"
    assert "nuclei an image: mean " in text and rows[0]["nuclei"].startswith("mean ")


@pytest.mark.slow
def test_generated_runs_are_done_and_measured(tmp_path):
    text = script("scale.py", "--cells", "6", "--threads", "1", "--out", str(tmp_path), "--commands", "status", "table")
    assert "6 runs of 2 rows, 3 splits, 1 seeds: " in text and "\n  6 done\n" in text
    rows = {line.split()[0]: line.split()[1:4] for line in text.splitlines() if line.startswith(("status ", "table "))}
    assert rows.keys() == {"status", "table"} and all(float(value) > 0 for row in rows.values() for value in row)
    (table,) = (tmp_path / "reports").rglob("main-cellvit.csv")
    assert [row["runs"] for row in rows_of(table)] == ["3", "3"]
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json"))
    again = script("scale.py", "--cells", "6", "--threads", "1", "--out", str(tmp_path), "--commands", "status")
    assert " runs of " not in again, "the runs that are there are measured again"
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json")) == before


@pytest.fixture
def bench_ops(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "perf")
    return loaded("bench_ops")


@pytest.mark.parametrize("shape", ["injector", "extractor"])
def test_the_peers_compute_the_same(bench_ops, shape):
    """The installed ones; at least the grid_sample form is."""
    *inputs, _ = bench_ops.case(shape, 1, "fp32", torch.device("cpu"))
    expected = ms_deform_attn(*inputs, backend="reference")
    calls = bench_ops.implementations(torch.device("cpu"))
    assert {"grid_sample", "torch"} <= calls.keys()
    for name, call in calls.items():
        torch.testing.assert_close(call(*inputs), expected, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_the_op_is_measured_until_the_limit(tmp_path):
    text = script("bench_ops.py", "--device", "cpu", "--batch", "1", "--rounds", "1", "--out", str(tmp_path / "all"))
    assert "not run" not in text
    (table,) = (tmp_path / "all").glob("*.csv")
    rows = rows_of(table)
    assert {(row["shape"], row["pass"]) for row in rows} == {
        (shape, part) for shape in ("injector", "extractor") for part in ("forward", "forward+backward")
    }
    assert all(float(row["ms"]) > 0 and row["hardware"] and row["torch"] == torch.__version__ for row in rows)
    assert table.with_suffix(".png").exists() and table.with_suffix(".pdf").exists()
    text = script("bench_ops.py", "--device", "cpu", "--batch", "1", "--limit", "0", "--out", str(tmp_path / "none"))
    assert text.count("not run, the time is up") == 4 and not (tmp_path / "none").exists()


def test_an_interrupted_run_keeps_its_cases(bench_ops, monkeypatch, tmp_path):
    rows = bench_ops.Rows(tmp_path / "table.csv", bench_ops.COLUMNS)
    works = []

    def seconds(work, argument, device):
        works.append(work)
        if works.count(work) < len(works):
            raise KeyboardInterrupt
        return [1.0, 1.0]

    monkeypatch.setattr(bench_ops, "seconds", seconds)
    monkeypatch.setattr(bench_ops, "implementations", lambda device: {"grid_sample": None})
    with pytest.raises(KeyboardInterrupt):
        bench_ops.measure(rows, "injector", 1, "fp32", torch.device("cpu"), 1)
    assert [row["pass"] for row in rows_of(tmp_path / "table.csv")] == ["forward"]


STAND_IN = """#!/bin/sh
echo "$@" >> "$RECORD"
case "$*" in
    *find_spec*) exit 0 ;;
    *cuda.usable*) exit 0 ;;
    *test_cuda_gpu.py*) sleep "${SLEEP:-0}"; exit "${CODE:-0}" ;;
esac
"""


TIMED = ["step", "inference", "ops", "methods", "ways"]
LEVERS = ["validation", "levers", "profile", "share", "tune", "graph"]


def gpu_check(tmp_path, *words: str, stand_in: str = STAND_IN, **environment: str):
    """(exit code, lines of the summary) of gpu_check.sh whose Python does nothing."""
    python = tmp_path / "python"
    python.write_text(stand_in)
    python.chmod(0o755)
    values = {"PYTHON": str(python), "OUT": str(tmp_path / "out"), "RECORD": str(tmp_path / "record"), "BESIDE": "0"}
    done = subprocess.run(
        ["sh", str(ROOT / "perf/gpu_check.sh"), *words],
        capture_output=True,
        text=True,
        env=os.environ | values | environment,
    )
    summary = tmp_path / "out/summary.txt"
    return done.returncode, summary.read_text().splitlines() if summary.exists() else done.stderr.splitlines()


def test_the_gpu_script_runs_the_parts_that_it_is_asked_for(tmp_path):
    code, lines = gpu_check(tmp_path, "measure")
    assert code == 0 and lines[0].startswith("== measure")
    names = [line.partition(":")[0] for line in lines[1:]]
    assert names == TIMED
    assert all(": passed (" in line for line in lines[1:])
    called = (tmp_path / "record").read_text()
    assert "--parts split goal loader" in called and "-m pytest" not in called
    code, lines = gpu_check(tmp_path, "levers")
    assert code == 0 and [line.partition(":")[0] for line in lines[len(TIMED) + 2 :]] == LEVERS
    code, lines = gpu_check(tmp_path, "check")
    assert "== check" in " ".join(lines) and "pytest tests/ops/test_cuda_gpu.py" in (tmp_path / "record").read_text()
    names = [line.partition(":")[0] for line in lines[lines.index(next(one for one in lines if "== check" in one)) :]]
    assert names[1:6] == ["environment", "graphs", "tests", "harness", "compiled"]


def test_the_gpu_script_runs_the_parts_alone_that_are_named(tmp_path):
    code, lines = gpu_check(tmp_path, "check", "measure", ONLY="harness methods")
    assert code == 0 and [line.partition(":")[0] for line in lines if ": passed (" in line] == ["harness", "methods"]


def test_the_gpu_script_checks_beside_each_other_and_times_alone(tmp_path):
    """Nothing is lost, and a failure beside others is still a failure."""
    code, lines = gpu_check(tmp_path, "check", "measure", BESIDE="1", SLEEP="4", CODE="7")
    assert code == 1
    names = [line.partition(":")[0] for line in lines if ": passed (" in line or ": FAILED" in line]
    checked = names[: -len(TIMED)]
    assert names[-len(TIMED) :] == TIMED
    assert {"graphs", "harness", "compiled", "curve", "compile"} < {*checked}
    assert checked.index("tests") > checked.index("harness"), "one waited for the other"
    assert any(line.startswith("tests: FAILED with 7") for line in lines)
    with tarfile.open(tmp_path / "out.tgz") as archive:
        assert {"out/tests.txt", "out/compiled.txt", "out/ways.txt"} <= {*archive.getnames()}
    assert not [*tmp_path.rglob("*.part")]


@pytest.mark.parametrize("beside", ["0", "1"])
def test_the_gpu_script_ends_what_it_began_when_it_is_ended(tmp_path, beside):
    python = tmp_path / "python"
    python.write_text(STAND_IN.replace("sleep", f"echo $$ >> {tmp_path}/waiting; exec sleep"))
    python.chmod(0o755)
    values = {"PYTHON": str(python), "OUT": str(tmp_path / "out"), "RECORD": str(tmp_path / "record")}
    values |= {"BESIDE": beside, "SLEEP": "60"}
    script = subprocess.Popen(["sh", str(ROOT / "perf/gpu_check.sh"), "check"], env=os.environ | values)
    waiting = tmp_path / "waiting"
    until = time.monotonic() + 60
    while not (waiting.exists() and waiting.read_text().strip()) and time.monotonic() < until:
        time.sleep(0.05)
    script.terminate()
    assert script.wait(30) == 143
    number = int(waiting.read_text())
    while (running := Path(f"/proc/{number}").exists()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running


def test_the_gpu_script_packs_what_it_wrote_after_each_part(tmp_path):
    """Where only some files can be fetched, or the run is cut."""
    gpu_check(tmp_path, "check", LIMIT="8", SLEEP="60")
    with tarfile.open(tmp_path / "out.tgz") as archive:
        assert {"out/summary.txt", "out/environment.txt", "out/graphs.txt", "out/tests.txt"} <= {*archive.getnames()}
        summary = archive.extractfile("out/summary.txt").read().decode()
    assert "tests: FAILED: more than" in summary
    inside = tmp_path / "out/all.tgz"
    gpu_check(tmp_path, "measure", ARCHIVE=str(inside))
    with tarfile.open(inside) as archive:
        assert "out/ways.txt" in archive.getnames() and "out/all.tgz" not in archive.getnames()
    assert not [*tmp_path.rglob("*.part")]


def test_the_gpu_script_runs_each_test_of_the_harness_in_one_part(tmp_path):
    gpu_check(tmp_path, "check")
    words = [line.split(" -k ")[1] for line in (tmp_path / "record").read_text().splitlines() if " -k " in line]
    assert words == ["graphs", "not graphs and not compiled", "compiled"]
    names = re.findall(r"^def (test_\w+)", (ROOT / "tests/training/test_gpu.py").read_text(), re.M)
    assert {("graphs" in name) + ("compiled" in name) for name in names} == {0, 1}


@pytest.mark.parametrize("words", [(), ("all",), ("check", "mesure")])
def test_the_gpu_script_refuses_other_words(tmp_path, words):
    code, lines = gpu_check(tmp_path, *words)
    assert code == 2 and "check | measure | levers" in lines[0] and not (tmp_path / "record").exists()


def test_the_gpu_script_ends_in_time_and_says_what_is_missing(tmp_path):
    code, lines = gpu_check(tmp_path, "check", LIMIT="3", SLEEP="60")
    assert code == 1
    assert any(line.startswith("tests: FAILED: more than ") for line in lines)
    assert any(line.startswith("compile: NOT RUN, the time is up") for line in lines)


def test_the_gpu_script_goes_on_after_a_part_that_failed(tmp_path):
    code, lines = gpu_check(tmp_path, "check", CODE="7")
    assert code == 1 and any(line.startswith("tests: FAILED with 7") for line in lines)
    assert any(line.startswith("compile: passed") for line in lines)


def test_the_gpu_script_says_what_was_skipped_and_what_was_not_timed(tmp_path):
    lines = STAND_IN.replace('sleep "${SLEEP:-0}"', "echo '= 127 passed, 2 skipped in 74.56s ='")
    _, checked = gpu_check(tmp_path, "check", "measure", stand_in=lines.replace(
        "esac", "    *train_step*) echo 'goal: x: not run, the time is up' ;;\nesac"))  # fmt: skip
    tests = next(line for line in checked if line.startswith("tests:"))
    assert "passed (" in tests and "127 passed, 2 skipped" in tests
    assert any(line.startswith("step: passed, 1 rows not run") for line in checked)


def test_rows_name_the_commit_and_whether_files_differ(tmp_path, monkeypatch):
    rows = loaded("csv_rows")
    folder = tmp_path / "perf"
    folder.mkdir()
    (folder / "csv_rows.py").write_text("")
    monkeypatch.setattr(rows, "__file__", str(folder / "csv_rows.py"))
    monkeypatch.delenv("COMMIT", raising=False)
    assert rows.commit() == ""

    def git(*words: str) -> str:
        me = ["-c", "user.name=x", "-c", "user.email=x@y"]
        return subprocess.run(["git", "-C", str(tmp_path), *me, *words], capture_output=True, text=True).stdout.strip()

    git("init")
    git("add", "perf")
    git("commit", "-m", "x")
    git("tag", "-a", "v1", "-m", "x")
    short = git("rev-parse", "--short", "HEAD")
    assert short and rows.commit() == short
    (folder / "csv_rows.py").write_text("x")
    assert rows.commit() == f"{short}-dirty"
    monkeypatch.setenv("COMMIT", "1234567")
    assert rows.commit() == "1234567"

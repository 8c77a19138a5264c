"""Training logs for viewers: every epoch once and in order, also while a run goes on, and a viewer that fails."""

import importlib.util
import json
import os
import subprocess
import sys
import time

import pytest

from benchmark.cli import main
from benchmark.experiment import trackers
from benchmark.results.track import Tracker
from benchmark.runtime.paths import ROOT
from tests.support.kills import content

NAME = "synthetic/cellvta@small/fold1-seed0"


class Writer:
    def __init__(self, mark=""):
        self.points, self.closed, self.mark = [], 0, mark

    def write(self, values, step):
        self.points += [(tag, value, step) for tag, value in values.items()]

    def close(self):
        self.closed += 1


def log(folder, epochs, seconds=1.0):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"epoch": e, "loss": 1.0 / (e + 1), "lr": 0.1, "terms": {"np": 0.5}, "val_bPQ": None, "seconds": seconds}
        for e in range(epochs)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def losses(writer):
    return [(value, step) for tag, value, step in writer.points if tag == "loss"]


def test_a_folder_that_is_not_there_is_refused_unless_it_is_waited_for(tmp_path, capsys):
    pytest.importorskip("tensorboard", reason="the extra track is not installed")
    assert main(["track", "--results", str(tmp_path / "absent"), "--logdir", str(tmp_path / "logs")]) == 2
    assert "absent' is no folder of results; correct --results" in capsys.readouterr().err


def test_the_validation_of_each_of_several_sets_has_a_curve(tmp_path):
    writers = {}
    tracker = Tracker(tmp_path, lambda name, mark: writers.setdefault(name, Writer()), tmp_path / "written.json")
    run = tmp_path / NAME
    log(run, 1)
    line = json.loads((run / "log.jsonl").read_text())
    (run / "log.jsonl").write_text(json.dumps(line | {"val_bPQ_of": {"one": 0.5, "two": None}}) + "\n")
    tracker.update()
    (writer,) = writers.values()
    assert ("val_bPQ/one", 0.5, 1) in writer.points and not [tag for tag, *_ in writer.points if tag.endswith("two")]


def test_each_epoch_once(tmp_path):
    writers = {}
    tracker = Tracker(tmp_path, lambda name, mark: writers.setdefault(name, Writer()), tmp_path / "written.json")
    run = tmp_path / NAME
    log(run, 2)
    assert tracker.update() == 2 and tracker.update() == 0
    log(run, 3)
    assert tracker.update() == 1
    (writer,) = writers.values()
    assert list(writers) == [NAME]
    assert [p for p in writer.points if p[0] == "loss"] == [("loss", 1.0, 1), ("loss", 0.5, 2), ("loss", 1 / 3, 3)]
    assert {p[0] for p in writer.points} == {"loss", "lr", "terms/np", "seconds"}
    log(run, 1)  # begun anew
    assert tracker.update() == 1 and writer.points[-1][2] == 1


def test_a_later_call_goes_on_and_a_training_begun_anew_is_another(tmp_path):
    opened = []

    def open_writer(name, mark):
        opened.append(Writer(mark))
        return opened[-1]

    run, written = tmp_path / NAME, tmp_path / "written.json"
    log(run, 2)
    Tracker(tmp_path, open_writer, written).update()
    log(run, 4)  # the same training, resumed while nobody looked
    later = Tracker(tmp_path, open_writer, written)
    assert later.update() == 2 and losses(opened[1]) == [(1 / 3, 3), (0.25, 4)]
    assert opened[0].mark == opened[1].mark
    log(run, 4, seconds=2.0)  # another training of as many epochs
    assert later.update() == 4 and [step for _, step in losses(opened[2])] == [1, 2, 3, 4]
    assert opened[2].mark != opened[1].mark and opened[1].closed == 1
    later.close()
    assert opened[2].closed == 1


def test_a_failing_writer_is_one_line_and_is_tried_again(tmp_path, capsys):
    class Failing(Writer):
        broken = True

        def write(self, values, step):
            if step == 2 and self.broken:
                raise OSError(28, "No space left on device")
            super().write(values, step)

    writer = Failing()
    log(tmp_path / NAME, 3)
    log(tmp_path / NAME.replace("seed0", "seed1"), 3)
    tracker = Tracker(tmp_path, lambda name, mark: writer, tmp_path / "written.json")
    assert tracker.update() == 2 and tracker.update() == 0 and tracker.failed
    (line,) = capsys.readouterr().err.splitlines()
    why = "OSError: [Errno 28] No space left on device"
    assert line == f"tracking {NAME} failed ({why}); trainings go on, and the next look tries again"
    writer.broken = False
    assert tracker.update() == 4
    assert [step for _, step in losses(writer)] == [1, 1, 2, 3, 2, 3]


def test_a_damaged_list_of_what_was_written_is_named(tmp_path, capsys):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/written-tensorboard.json").write_text('{"a": 3}')
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    assert main(["track", "--results", str(tmp_path / "results"), "--logdir", str(tmp_path / "logs")]) == 2
    assert "written-tensorboard.json: expected what `track` has written" in capsys.readouterr().err


@pytest.mark.parametrize("name", trackers.EXTRAS)
def test_a_missing_package_names_its_extra(name, tmp_path, capsys, monkeypatch):
    package = {"tensorboard": "torch.utils.tensorboard"}.get(name, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"benchmark.experiment.trackers.{name}", raising=False)
    log(tmp_path / "results" / NAME, 1)
    words = ["track", "--to", name, "--results", str(tmp_path / "results"), "--logdir", str(tmp_path / "logs")]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and f"{sys.executable} -m pip install -e '.[{trackers.EXTRAS[name]}]'" in line
    assert not (tmp_path / "logs").exists()


def track(tmp_path, name):
    log(tmp_path / "results" / NAME, 2)
    words = ["track", "--to", name, "--results", str(tmp_path / "results"), "--logdir", str(tmp_path / "logs")]
    assert main(words) == 0
    log(tmp_path / "results" / NAME, 4)
    assert main(words) == 0 and main(words) == 0


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: only its absence is tested")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "logs" / NAME))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["loss", "lr", "seconds", "terms/np"]
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [
        (1, 1.0),
        (2, 0.5),
        (3, pytest.approx(1 / 3)),
        (4, 0.25),
    ]


def records_of(stored):
    """The records of a file that W&B keeps: 7 bytes, then blocks of 32 KiB of parts with CRC, length and place."""
    at, whole = 7, b""
    while at + 7 <= len(stored):
        if (left := -at % 32768) and left < 7:
            at += left
            continue
        size, place = int.from_bytes(stored[at + 4 : at + 6], "little"), stored[at + 6]
        whole += stored[at + 7 : at + 7 + size]
        at += 7 + size
        if place in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


def whole_file(path, kind) -> list:
    """The records of a file once its last one is there: W&B's own process may write on for a moment after a call."""
    until = time.monotonic() + 30
    while True:
        records = [kind.FromString(data) for data in records_of(path.read_bytes())]
        if any(record.HasField("exit") for record in records):
            return records
        assert time.monotonic() < until, f"{path} has no end"
        time.sleep(0.05)


def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed: only its absence is tested")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    track(tmp_path, "wandb")
    ids, points = set(), []
    files = sorted((tmp_path / "logs/wandb").glob("offline-run-*/*.wandb"))  # by the second that each began in
    assert len(files) == 2
    for path in files:
        for record in whole_file(path, Record):
            ids |= {(record.run.run_id, record.run.display_name)} if record.HasField("run") else set()
            if record.HasField("history"):
                item = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                points.append((item["_step"], item["loss"], item["terms/np"]))
    assert points == [(1, 1.0, 0.5), (2, 0.5, 0.5), (3, 1 / 3, 0.5), (4, 0.25, 0.5)]
    assert len(ids) == 1 and next(iter(ids))[1] == NAME


def test_mlflow_in_files(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed: only its absence is tested")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    track(tmp_path, "mlflow")
    client = MlflowClient(tracking_uri=(tmp_path / "logs/mlruns").resolve().as_uri())
    experiment = client.get_experiment_by_name("benchmark").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.run_name == NAME and run.info.status == "FINISHED"
    points = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")]
    assert points == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    assert client.get_run(run.info.run_id).data.metrics.keys() == {"loss", "lr", "seconds", "terms/np"}


def test_nothing_is_imported_unless_asked_for(tmp_path):
    """timm imports wandb where it is installed: not here."""
    for name in ("tensorboard", "wandb", "mlflow"):
        (tmp_path / f"{name}.py").write_text(f"print('{name} was imported')")
    code = "from benchmark.cli import parser\nparser()\nimport benchmark.experiment.run\nprint('imported')"
    paths = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | paths, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "imported", done.stderr


def test_a_tracked_training_has_the_same_bits(tmp_path, benchmark_command):
    """Tools that follow a training see all its epochs and leave every file of the run as it is without them."""
    tools = [name for name in ("wandb", "mlflow") if importlib.util.find_spec(name)]
    if not tools:
        pytest.skip("neither wandb nor mlflow is installed")
    words = ("--method", "cellvta@debug,drop_path=0.3", "recipe.epochs=3", "recipe.samples=16")
    alone, followed = tmp_path / "alone", tmp_path / "followed"
    assert benchmark_command("run", *words, results=alone).returncode == 0
    places = ("--results", followed, "--logdir", tmp_path / "logs")
    offline = {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": ""}
    following = [
        benchmark_command(
            "track", "--to", name, "--follow", "0.2", *places, results=None, data=False, wait=False, environment=offline
        )
        for name in tools
    ]
    try:
        assert benchmark_command("run", *words, results=followed).returncode == 0
        for name, process in zip(tools, following, strict=True):
            path, end = tmp_path / f"logs/written-{name}.json", time.monotonic() + 120
            while not path.exists() or [one["epochs"] for one in json.loads(path.read_text()).values()] != [3]:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < end, f"{name} did not write all epochs"
                time.sleep(0.1)
    finally:
        for process in following:
            process.terminate()
            process.communicate(timeout=120)
    files = {path.relative_to(alone) for path in alone.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert len(files) >= 9
    for path in files:
        assert content(alone / path) == content(followed / path), path

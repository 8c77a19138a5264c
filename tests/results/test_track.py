"""Training logs for TensorBoard: every epoch once, also while a run goes on."""

import json

import pytest

from benchmark.cli import main
from benchmark.results.track import Tracker


class Writer:
    def __init__(self):
        self.points, self.flushed = [], 0

    def add_scalar(self, tag, value, step):
        self.points.append((tag, value, step))

    def flush(self):
        self.flushed += 1


def log(folder, epochs):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"epoch": e, "loss": 1.0 / (e + 1), "lr": 0.1, "terms": {"np": 0.5}, "val_bPQ": None} for e in range(epochs)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_each_epoch_once(tmp_path):
    writers = {}
    tracker = Tracker(tmp_path, lambda name: writers.setdefault(name, Writer()))
    run = tmp_path / "synthetic/cellvta@small/fold1-seed0"
    log(run, 2)
    assert tracker.update() == 2 and tracker.update() == 0
    log(run, 3)
    assert tracker.update() == 1
    (writer,) = writers.values()
    assert list(writers) == ["synthetic/cellvta@small/fold1-seed0"]
    assert [p for p in writer.points if p[0] == "loss"] == [("loss", 1.0, 1), ("loss", 0.5, 2), ("loss", 1 / 3, 3)]
    assert {p[0] for p in writer.points} == {"loss", "lr", "terms/np"}
    log(run, 1)  # begun anew
    assert tracker.update() == 1 and writer.points[-1][2] == 1


def test_command(tmp_path, capsys):
    log(tmp_path / "results/synthetic/a@small/fold1-seed0", 2)
    code = main(["track", "--results", str(tmp_path / "results"), "--logdir", str(tmp_path / "tb")])
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        assert code == 2 and "pip install -e '.[track]'" in capsys.readouterr().err
        pytest.skip("tensorboard is not installed: only its absence was tested")
    assert code == 0 and list((tmp_path / "tb").rglob("events.out*"))

"""How calls on a GPU are timed (perf/gpu_time.py), on a GPU made of a clock."""

import importlib.util
import time

import pytest
import torch

from benchmark.runtime.paths import ROOT


class Clock:
    """`now` on the host; the GPU has work until `busy`. Seconds."""

    def __init__(self):
        self.now = self.busy = 0.0
        self.waits: list[float] = []

    def sleep(self, cycles: int) -> None:
        self.waits.append(cycles / 2e9)
        self.busy = max(self.now, self.busy) + cycles / 2e9

    def synchronize(self) -> None:
        self.now = max(self.now, self.busy)


@pytest.fixture
def timing(monkeypatch):
    clock = Clock()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = max(clock.now, clock.busy)

        def query(self):
            return clock.now >= self.at

        def synchronize(self):
            clock.now = max(clock.now, self.at)

        def elapsed_time(self, end):
            return 1e3 * (end.at - self.at)

    spec = importlib.util.spec_from_file_location("gpu_time", ROOT / "perf/gpu_time.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CACHE", 16)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", clock.sleep)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: clock.synchronize())
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock, lambda work, count=1: module.times(work, torch.device("cpu"), count)[-1]


def call(clock: Clock, launching: float, running: float = 0.002, waits: bool = False, before: float = 0):
    """A call that `waits`, or not, for the device after launching for `before` seconds, then launches its kernel."""

    def work():
        clock.now += before
        if waits:
            clock.synchronize()
        clock.now += launching
        clock.busy = max(clock.now, clock.busy) + running

    return work


def test_launches_do_not_count(timing):
    clock, seconds = timing
    assert seconds(call(clock, 0.005)) == pytest.approx(0.002) and clock.waits == [0.01]


def test_slow_launches_get_a_longer_wait(timing):
    clock, seconds = timing
    assert seconds(call(clock, 0.03)) == pytest.approx(0.002) and clock.waits == [0.01, 0.04]


def test_no_longer_wait_for_what_waits_for_the_device(timing):
    """It would not help, and take the better part of a second for each of hundreds of calls."""
    clock, seconds = timing
    with pytest.warns(RuntimeWarning, match="waits for the device"):
        assert seconds(call(clock, 0.001, waits=True)) == pytest.approx(0.003)
    assert clock.waits == [0.01, 0.01]


def test_the_first_call_does_not_count(timing):
    """A kernel that is launched for the first time waits for the device."""
    clock, seconds = timing
    first, other = call(clock, 0.001, 0.5, waits=True), call(clock, 0.001)
    calls = iter([first])
    assert seconds(lambda: next(calls, other)(), 2) == pytest.approx(0.002) and clock.waits == [0.01, 0.01]


def test_what_was_learnt_of_a_call_holds_for_its_repetitions(timing):
    clock, seconds = timing
    assert seconds(call(clock, 0.03), 3) == pytest.approx(0.002) and clock.waits == [0.01, 0.04, 0.04, 0.04]
    clock.waits.clear()
    with pytest.warns(RuntimeWarning) as warned:
        assert seconds(call(clock, 0.034, waits=True), 3) == pytest.approx(0.036)
    assert len(warned) == 1 and clock.waits == [0.01] * 4


def test_a_longer_wait_is_given_up_once_the_call_is_known_to_wait(timing):
    """Launches before its own wait hide that until the device waits longer than they take."""
    clock, seconds = timing
    with pytest.warns(RuntimeWarning) as warned:
        seconds(call(clock, 0.001, waits=True, before=0.05), 3)
    assert len(warned) == 1 and clock.waits == [0.01, 0.04, 0.16, 0.01, 0.01, 0.01]


def test_launches_that_no_wait_is_long_enough_for(timing):
    clock, seconds = timing
    with pytest.warns(RuntimeWarning, match="holds the launches"):
        seconds(call(clock, 1), 2)
    assert clock.waits == [0.01, 0.04, 0.16, 0.64, 0.01, 0.01]

"""Cells on this machine: one at a time on each device, the next one on whichever is free."""

import collections
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.experiment.estimate import Estimate, done, load
from benchmark.experiment.launchers.base import DIE_WITH_PARENT, Job, keep_reason
from benchmark.experiment.launchers.board import Board
from benchmark.experiment.launchers.devices import threads_set
from benchmark.runtime.errors import OUT_OF_MEMORY
from benchmark.runtime.progress import MARKED
from benchmark.runtime.workers import AT_ONCE

WAIT = 0.5  # seconds between two looks at the running cells


@dataclass
class Child:
    """The process of a running cell.

    Attributes:
        before: share of its training that was done before it began.
        reader: passes on what it prints; None where it has the output to itself.
    """

    job: Job
    process: subprocess.Popen
    began: float
    before: float
    reader: threading.Thread | None

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began


class Local:
    """Runs cells in child processes, which end with this one.

    Args:
        devices: the device of each cell that may run at once, see `devices.slots`.
    """

    waits = True

    def __init__(self, devices: list[str]):
        counts = collections.Counter(devices)
        numbers: collections.Counter = collections.Counter()
        self.slots: dict[str, str] = {}  # name -> device
        for device in devices:
            numbers[device] += 1
            self.slots[f"{device} #{numbers[device]}" if counts[device] > 1 else device] = device
        self.running: dict[str, Child] = {}
        self.events: queue.SimpleQueue = queue.SimpleQueue()

    @property
    def threads(self) -> int | None:
        """As `Launcher.threads`: what the user set, or the share of each of several cells."""
        return threads_set()

    def submit(self, jobs: list[Job]) -> Iterator[tuple[Job, int]]:
        """As `Launcher.submit`. A cell whose memory did not suffice beside others runs once more, alone, at the end."""
        self.total, self.ended = len(jobs), 0
        self.estimate = Estimate(job.cell for job in jobs)
        if len(self.slots) > 1:  # the longest first, lest one is left that the other devices wait for
            jobs = sorted(jobs, key=lambda job: load(job.cell) * (done(job.cell) - 1))
        waiting, again = collections.deque(jobs), collections.deque[Job]()
        with Board(len(self.slots) > 1) as self.board, self._children():
            for turn, slots in ((waiting, list(self.slots)), (again, list(self.slots)[:1])):
                while turn or self.running:
                    for slot in slots:
                        while turn and slot not in self.running:
                            self._begin(slot, turn.popleft(), [*turn, *again])
                    for slot, code in self._endings([*turn, *again]):
                        child = self._end(slot, code)
                        if _died_of_memory(code) and turn is waiting and len(self.slots) > 1:
                            self.board.say(f"{child.job}: memory did not suffice beside others; it runs alone later")
                            again.append(child.job)
                            continue
                        self.ended += 1
                        if code < 0:
                            keep_reason(child.job.cell.folder, _why(code))
                        yield child.job, code

    def _begin(self, slot: str, job: Job, later: list[Job]) -> None:
        if not job.is_due():
            self.ended += 1
            return
        device, several = self.slots[slot], len(self.slots) > 1
        before = done(job.cell)
        left = self._left([job, *later])
        self.board.say(f"\n=== cell {self.ended + len(self.running) + 1}/{self.total}: {job}{left}")
        process = subprocess.Popen(
            job.command(device),
            env=os.environ | ({MARKED: "1", AT_ONCE: str(len(self.slots))} if several else {}),
            stderr=subprocess.PIPE if several else None,
            preexec_fn=DIE_WITH_PARENT,
        )
        reader = threading.Thread(target=self._read, args=(slot, process), daemon=True) if several else None
        self.running[slot] = Child(job, process, time.monotonic(), before, reader)
        self.board.begin(slot, str(job))
        threading.Thread(target=self._wait, args=(slot, process), daemon=True).start()
        if reader:
            reader.start()

    def _read(self, slot: str, process: subprocess.Popen) -> None:
        for line in process.stderr or ():
            self.events.put((slot, line.decode(errors="replace"), None))

    def _wait(self, slot: str, process: subprocess.Popen) -> None:
        self.events.put((slot, None, process.wait()))

    def _endings(self, later: list[Job]) -> list[tuple[str, int]]:
        """(slot, exit code) of the cells that ended; waits for a moment, and shows what the cells print."""
        ended = []
        with contextlib.suppress(queue.Empty):
            event = self.events.get(timeout=WAIT)
            while True:
                slot, line, code = event
                if line is None:
                    ended.append((slot, code))
                else:
                    self.board.line(slot, line)
                event = self.events.get_nowait()
        self.board.show(f"{self.ended} of {self.total} cells ended{self._left(later)}")
        return ended

    def _end(self, slot: str, code: int) -> Child:
        child = self.running.pop(slot)
        if child.reader:
            child.reader.join(timeout=2)  # what it printed last; a process that it left behind may hold the pipe
            with contextlib.suppress(queue.Empty):
                held = []
                while True:
                    held.append(self.events.get_nowait())
            for event in held:
                if event[0] == slot and event[1] is not None:
                    self.board.line(slot, event[1])
                else:
                    self.events.put(event)
        self.board.end(slot)
        if code == 0:
            self.estimate.ended(child.job.cell, child.seconds, 1 - child.before)
        return child

    def _left(self, later: list[Job]) -> str:
        """ ", about N s left" for the running cells and those that follow; "" where nothing is known."""
        running = [(child.job.cell, child.seconds, child.before) for child in self.running.values()]
        seconds = self.estimate.left(running, [job.cell for job in later], len(self.slots))
        return "" if seconds is None else f", about {seconds:.0f} s left"

    @contextlib.contextmanager
    def _children(self) -> Iterator[None]:
        """End all children with this process: SIGTERM and Ctrl-C end them too, and are waited for."""

        def stop(number, frame):  # waits for nothing here: it interrupts whatever holds a lock
            sys.exit(128 + number)

        main = threading.current_thread() is threading.main_thread()
        previous = signal.signal(signal.SIGTERM, stop) if main else None
        try:
            yield
        except KeyboardInterrupt:
            self._stop(signal.SIGINT)  # a Ctrl-C reached them already; a signal to this process alone did not
            raise
        finally:
            self._stop(signal.SIGTERM)
            if main:
                signal.signal(signal.SIGTERM, previous)

    def _stop(self, number: int) -> None:
        for child in self.running.values():
            child.process.send_signal(number)
        for child in self.running.values():
            child.process.wait()
        self.running.clear()


def _died_of_memory(code: int) -> bool:
    return code in (OUT_OF_MEMORY, -9)  # Windows has no name for it


def _why(code: int) -> str:
    if code == -9:
        return "its process was killed (signal 9), most often because main memory ran out; free some and run it again"
    return f"its process was ended by {signal.Signals(-code).name} (signal {-code}); run it again"

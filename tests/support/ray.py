"""A Ray cluster on this machine, whose nodes a test adds and kills; and a module in Ray's place, which runs nothing."""

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import family

STORE = 80 * 2**20  # bytes of a node's object store
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0" * 64,  # the home folder gets none
    "RAY_memory_monitor_refresh_ms": "0",  # what else the machine runs is no matter of these tests
}


@contextlib.contextmanager
def environment(**more: str) -> Iterator[dict[str, str]]:
    """The environment of Ray's processes and of those that speak to them, with a folder of its own below /tmp: names of
    sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="ray-test-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield ENVIRONMENT | {"RAY_TMPDIR": folder} | more


class Node:
    """A node, started as `ray start` starts one.

    Attributes:
        raylet: the process above the node's workers.
    """

    def __init__(self, environment: dict[str, str], *words: str):
        folder = Path(environment["RAY_TMPDIR"])
        line = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words]
        # of several nodes on one machine each takes free ports
        line += ["--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={STORE}"]
        self.log = folder / f"node-{len(list(folder.glob('node-*')))}.log"
        with open(self.log, "w") as stream:
            self.process = subprocess.Popen(
                line, env=os.environ | environment, stdout=stream, stderr=stream, start_new_session=True
            )
        try:
            self._wait(lambda: "Ray runtime started" in self.log.read_text())
            self.raylet = self._wait(self._find)
        except BaseException:
            self.close()
            raise

    def _find(self) -> int | None:
        name = "raylet/raylet"
        return next((pid for pid in family(self.process.pid)[1:] if name in _words(pid)[0]), None)

    def _wait(self, until, seconds: float = 120.0):
        end = time.monotonic() + seconds
        while not (value := until()):
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"a node does not start: {self.log.read_text()[-3000:]}")
            time.sleep(0.2)
        return value

    def kill(self) -> None:
        """As if the machine was switched off, as far as one process can show it."""
        os.kill(self.raylet, signal.SIGKILL)

    def close(self) -> None:
        processes = family(self.process.pid)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Cluster:
    """A head without CPUs, and nodes.

    Attributes:
        environment: in which a command joins it.
    """

    def __init__(self, environment: dict[str, str]):
        self.environment = environment
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = environment["RAY_TMPDIR"]
        head = ("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}")
        self.nodes = [Node(environment, *head)]
        self.address = re.search(r"--address='(\S+)'", self.nodes[0].log.read_text())[1]

    def add(self, gpus: int = 0) -> Node:
        """A node of one CPU, and of GPUs that are none."""
        self.nodes.append(Node(self.environment, f"--address={self.address}", "--num-cpus=1", f"--num-gpus={gpus}"))
        return self.nodes[-1]

    def close(self) -> None:
        for node in reversed(self.nodes):
            node.close()


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return [""]


def parents(pid: int) -> list[int]:
    """The processes above a process, its parent first."""
    above = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        above.append(pid)
    return above


class RayError(Exception):
    """As of `ray.exceptions`, and so are those below."""


class RayTaskError(RayError): ...


class WorkerCrashedError(RayError): ...


class OutOfMemoryError(RayError): ...


def module(outcomes: dict[int, list], cpus: float = 1, gpus: float = 0):
    """A module in place of ray, whose tasks end as `outcomes` say.

    Args:
        outcomes: seed of a cell -> what each of its tries gives: an exception, what `_run` returns, or a function that
            returns it.
        cpus, gpus: of its only node.

    Returns:
        The module; `begun` holds (seed, options, arguments) of each task, `cancelled` seeds, `connections` the options
        of `init`, `down` whether it was shut down.
    """

    fake = types.SimpleNamespace(begun=[], cancelled=[], connections=[], down=False)
    fake.exceptions = types.SimpleNamespace(
        **{error.__name__: error for error in (RayError, *RayError.__subclasses__())}
    )
    fake.cloudpickle = types.SimpleNamespace(register_pickle_by_value=lambda module: None)
    numbers = itertools.count()

    class Remote:
        def __init__(self, options):
            self.asked = options

        def options(self, **options):
            return Remote(options)

        def remote(self, *arguments):
            seed = int(self.asked["name"].rpartition(" ")[2])
            fake.begun.append((seed, self.asked, arguments))
            return next(numbers), seed

    def get(reference):
        outcome = outcomes[reference[1]].pop(0)
        outcome = outcome() if isinstance(outcome, types.FunctionType) else outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    fake.remote = lambda function: Remote({})
    fake.wait = lambda references, num_returns, timeout: (references[:1], references[1:])
    fake.get = get
    fake.cancel = lambda reference, force: fake.cancelled.append(reference[1])
    fake.init = lambda **options: fake.connections.append(options)
    fake.shutdown = lambda: setattr(fake, "down", True)
    fake.cluster_resources = lambda: {"CPU": cpus, "GPU": gpus}
    fake.nodes = lambda: [{"Alive": True, "Resources": fake.cluster_resources()}]
    return fake

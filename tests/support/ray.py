"""A Ray cluster on this machine, whose nodes a test adds and kills; and a module in Ray's place, which runs nothing."""

import contextlib
import importlib
import itertools
import os
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

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


class Cluster:
    """A head without CPUs, and nodes.

    Attributes:
        environment: in which a command joins it.
    """

    def __init__(self, environment: dict[str, str]):
        self.environment = environment
        with mock.patch.dict(os.environ, environment):
            self._cluster = importlib.import_module("ray.cluster_utils").Cluster()
        self._add(num_cpus=0, include_dashboard=False)

    def _add(self, **options):
        with mock.patch.dict(os.environ, self.environment):
            folder = self.environment["RAY_TMPDIR"]
            return self._cluster.add_node(object_store_memory=STORE, temp_dir=folder, **options)

    @property
    def address(self) -> str:
        return self._cluster.address

    def add(self, gpus: int = 0):
        """A node of one CPU, and of GPUs that are none."""
        return self._add(num_cpus=1, num_gpus=gpus)

    @staticmethod
    def raylet(node) -> int:
        """Number of the process that is the parent of the node's workers."""
        return node.all_processes["raylet"][0].process.pid

    @staticmethod
    def kill(node) -> None:
        """SIGKILL to the raylet, as of a machine that is switched off."""
        node.kill_raylet()

    def close(self) -> None:
        for node in list(self._cluster.worker_nodes):
            self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)


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

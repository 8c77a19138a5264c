"""The process group: what two processes tell each other, and devices that they cannot share."""

import multiprocessing
import os
import socket

import pytest
import torch
from torch.cuda._utils import _get_device_index

from benchmark.runtime import distributed
from benchmark.runtime.errors import InputError


def exchange(rank: int, port: int, answers) -> None:
    """One of two processes: puts (rank, what it heard)."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world = distributed.start("cpu")
    heard = world.gather(rank + 10), world.gather_first({"from": rank}), world.share_first(f"said by {rank}")
    world.barrier()
    distributed.stop(world)
    answers.put((rank, world.local, *heard))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_two_processes():
    context, port = multiprocessing.get_context("spawn"), free_port()
    answers = context.Queue()
    processes = [context.Process(target=exchange, args=(rank, port, answers)) for rank in range(2)]
    for process in processes:
        process.start()
    heard = sorted(answers.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    assert heard[0] == (0, 2, [10, 11], [{"from": 0}, {"from": 1}], "said by 0")
    assert heard[1] == (1, 2, [10, 11], [], "said by 0"), "what the first alone needs goes to it alone"


def test_one_process_tells_itself():
    world = distributed.start("cpu")
    assert world.gather(3) == world.gather_first(3) == [3] and world.share_first(3) == 3 and world.local == 1


def torchrun(monkeypatch, here: int, size: int) -> None:
    for name, value in {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": here, "RANK": 0, "LOCAL_RANK": 0}.items():
        monkeypatch.setenv(name, str(value))


def test_processes_of_a_machine_cannot_share_a_gpu(monkeypatch):
    torchrun(monkeypatch, 2, 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"^--device cuda:1 was asked for, but torchrun started 2 processes on this"):
        distributed.start("cuda:1")
    torchrun(monkeypatch, 4, 4)
    for device in ("cuda", "auto"):
        with pytest.raises(InputError, match=r"^torchrun started 4 processes on this machine, which has 2 GPUs; set"):
            distributed.start(device)


def test_one_process_a_machine_may_name_its_gpu(monkeypatch):
    torchrun(monkeypatch, 1, 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    begun, chosen = [], []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, timeout: begun.append(backend))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert distributed.start("cuda:1").device == torch.device("cuda:1") == chosen[0] and begun == ["nccl"]


@pytest.mark.parametrize("device, expected", [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_is_chosen_by_its_number(monkeypatch, device, expected):
    """torch takes no device of kind cuda without one."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda one: chosen.append(_get_device_index(one)))
    assert distributed.start(device).device == torch.device("cuda", expected)
    assert chosen == [expected]

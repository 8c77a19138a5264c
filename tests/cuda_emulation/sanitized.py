"""Runs every kernel once under the address sanitizer; with the argument "fault", with one table a number too short."""

import sys

import torch

from benchmark.ops.cuda import plan
from tests.cuda_emulation.machine import Emulated
from tests.test_cuda_emulation import problem


def main() -> None:
    change = ("carve<int>(cursor, RANGE + 1)", "carve<int>(cursor, RANGE + 0)", 0) if "fault" in sys.argv else None
    launched = set()
    problems = [
        problem(8, shapes=((5, 9), (4, 4)), queries=180, points=6),
        problem(8, shapes=((40, 41), (2, 3)), queries=13),
        problem(7, queries=9, dtype=torch.bfloat16),
    ]
    for arguments in problems:
        machine = Emulated(sanitize=True, change=change, seed=1)
        plan.forward(machine, *arguments[1:])
        for scatter in (False, True):
            plan.backward(machine, *arguments, scatter)
        launched |= set(machine.launched)
    assert len(launched) == 8, launched


if __name__ == "__main__":
    main()

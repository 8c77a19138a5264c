"""Runs every kernel once under the address sanitizer, which ends the process at the first access outside."""

import os

from benchmark.ops.cuda import plan
from tests.cuda_emulation.machine import Emulated
from tests.test_cuda_emulation import problem


def run(arguments, change=None) -> set[str]:
    machine = Emulated(sanitize=True, change=change, seed=1)
    plan.forward(machine, *arguments[1:])
    for scatter in (False, True):
        plan.backward(machine, *arguments, scatter)
    return set(machine.launched)


def main() -> None:
    tiled = problem(8, shapes=((5, 9), (4, 4)), queries=180, points=6)
    launched = run(tiled) | run(problem(8, shapes=((40, 41), (2, 3)), queries=13))
    launched |= run(problem(8, shapes=((17, 16),), queries=180, points=6))
    assert len(launched) == 9, launched
    child = os.fork()
    if child == 0:  # a table one number too short: the sanitizer must end this process
        run(tiled, ("carve<int>(cursor, RANGE + 1)", "carve<int>(cursor, RANGE + 0)", 0))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 77, "the sanitizer did not notice a fault"


if __name__ == "__main__":
    main()

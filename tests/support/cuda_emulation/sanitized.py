"""Runs every kernel once under the address sanitizer, which ends the process at the first access outside."""

import os
from unittest import mock

from benchmark.ops.cuda import plan, sources
from tests.support.attention import problem
from tests.support.cuda_emulation.machine import Emulated


def run(arguments, change=None) -> set[str]:
    machine = Emulated(sanitize="address", change=change, seed=1)
    plan.forward(machine, *arguments[1:])
    for scatter in (False, True):
        plan.backward(machine, *arguments, scatter)
    return set(machine.launched)


def main() -> None:
    tiled = problem(8, shapes=((5, 9), (4, 4)), queries=181, points=6)
    launched = run(tiled) | run(problem(8, shapes=((40, 41), (2, 3)), queries=13))
    launched |= run(problem(8, shapes=((17, 16),), queries=181, points=6))
    with mock.patch.object(plan, "GATHER_READS", 0):
        launched |= run(problem(8, shapes=((17, 16),), queries=181, points=6))
        launched |= run(problem(8, shapes=((40, 41), (2, 3)), queries=13))
    assert len(launched) == sum(map(len, sources.FAMILIES.values())), launched
    # a table one number too short, a last tile too long: the sanitizer must end these processes
    must_end(tiled, ("carve<int>(cursor, RANGE + 1)", "carve<int>(cursor, RANGE + 0)", 0))
    must_end(tiled, ("(queries - tile + tiles - 1)", "(queries + tiles - 1)", 0))
    many = problem(8, shapes=((40, 41),), queries=13)
    must_end(many, ("carve<int>(cursor, largest_level)", "carve<int>(cursor, 7)", 0))


def must_end(arguments, change) -> None:
    child = os.fork()
    if child == 0:
        run(arguments, change)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 77, "the sanitizer did not notice a fault"


if __name__ == "__main__":
    main()

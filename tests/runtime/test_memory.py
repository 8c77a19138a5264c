"""What is taken for memory that ran out, and said in one sentence."""

import pytest

from benchmark.runtime import memory
from benchmark.runtime.errors import OutOfMemory


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (MemoryError("Unable to allocate 24.0 GiB"), "main memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "main memory"),
        (RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. "), "main memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "memory of the GPU",
        ),
    ],
)
def test_memory_that_ran_out(error, whose):
    with pytest.raises(OutOfMemory, match=f"^a cell: the {whose} did not suffice .*; take less"):
        with memory.suffices("a cell", "take less"):
            raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), RuntimeError("killed by signal: Terminated")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(RuntimeError, match=str(error)), memory.suffices("a cell", "take less"):
        raise error

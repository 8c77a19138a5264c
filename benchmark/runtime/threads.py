"""How the threads of OpenMP wait for each other, on a machine that others use too."""

import os
import sys

# GNU's runtime, which torch brings on Linux, spins some billions of times before a thread that waits goes to sleep:
# beside other processes the spinning takes the cores from those that work. Measured by perf/busy.py.
SPINS = 2000
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # the user's own


def wait_gently() -> None:
    """Have threads that wait go to sleep soon, in this process and those it starts; before torch is imported.

    What the user set stays; on macOS and Windows, which have another runtime, nothing is set.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in CHOICES):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)

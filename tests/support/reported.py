"""What tests measure that is worth reading where all is well: printed at the end of a session (conftest.py)."""

KERNELS: list[str] = []  # a line per architecture, dtype and width of the GPU kernels compiled

"""Processes that tests start."""

import signal


def heeds_interrupts() -> None:
    """In a new process: Ctrl-C ends it, also where the tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

"""What several running cells show: a line for each and one estimate for all, in place on a terminal."""

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

NAME = 12  # characters of a cell's name that are shown in any case
EVERY = 30  # seconds between two looks at the cells where the output is no terminal


class Board:
    """Lines of running cells on stderr.

    Lines that a cell prints to stay are printed at once, behind the name of its slot; of what only tells how far it
    is, the last line is shown.

    Args:
        several: whether cells run beside each other; one alone has the output to itself, and only what is said about
            all cells is printed here.
    """

    def __init__(self, several: bool):
        self.several = several
        self.rows: dict[str, tuple[str, str]] = {}  # slot -> (name of its cell, how far it is)
        self.shown = time.monotonic()
        self.console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        self.live: Live | None = None

    def __enter__(self) -> "Board":
        if self.several and self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
            self.live.start()
        return self

    def __exit__(self, *error) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        """Print a line, or several, that stay."""
        if self.live:
            self.console.print(Text(text))
        else:
            print(text, file=sys.stderr, flush=True)

    def line(self, slot: str, text: str) -> None:
        """A line that a cell printed; behind a carriage return stands one that its next line replaces."""
        text = text.rstrip("\n")
        if text.startswith("\r"):
            name, _ = self.rows.get(slot, ("", ""))
            self.rows[slot] = name, text.strip()
        elif text:
            self.say(f"{slot} | {text}")

    def begin(self, slot: str, name: str) -> None:
        """A cell begins on a slot."""
        self.rows[slot] = name, "begins"

    def end(self, slot: str) -> None:
        """The slot's cell ended."""
        self.rows.pop(slot, None)

    def show(self, summary: str) -> None:
        """Show all rows above `summary`: at once on a terminal, else every EVERY seconds."""
        if not self.several:
            return
        rows = [_row(slot, *row, self.console.width if self.live else None) for slot, row in sorted(self.rows.items())]
        if self.live:
            self.live.update(Text("\n".join([*rows, summary]), no_wrap=True, overflow="ellipsis"), refresh=True)
        elif time.monotonic() - self.shown >= EVERY:
            self.shown = time.monotonic()
            print("\n".join([*rows, summary]), file=sys.stderr, flush=True)


def _row(slot: str, name: str, state: str, room: int | None) -> str:
    """A slot's line; on a terminal of `room` characters the name gives way, so that one sees how far the cell is."""
    if room is not None:
        left = max(NAME, room - len(f"{slot} | : {state}"))
        name = name if len(name) <= left else f"{name[: left - 1]}…"
    return f"{slot} | {name}: {state}"

"""Names from files may hold signs that a terminal obeys: they are shown as Python writes them, such as \\x1b."""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import TextIO, cast

# all of C0 but tab and end of line, DEL and C1, and what turns or parts lines in Unicode
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""A text whose control signs are spelt out: the escape that begins a colour on a terminal is \x1b."""
    return CONTROL.sub(lambda sign: ascii(sign[0])[1:-1], text)


class _Guarded:
    """A stream of text through which no control signs pass, but for a carriage return at the start of a write."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        start = "\r" if text.startswith("\r") else ""  # progress, in place
        return self._stream.write(start + visible(text.removeprefix("\r")))

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """While this lasts, what is printed to stdout and stderr is `visible`."""
    with contextlib.ExitStack() as stack:
        if sys.stdout:
            stack.enter_context(contextlib.redirect_stdout(cast(TextIO, _Guarded(sys.stdout))))
        if sys.stderr:
            stack.enter_context(contextlib.redirect_stderr(cast(TextIO, _Guarded(sys.stderr))))
        yield

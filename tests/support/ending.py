"""How a call of a reader or a command ends: with a result, one sentence, a traceback or a hang."""

import contextlib
import faulthandler
import io
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmark.runtime.errors import InputError

KINDS = ("refusals", "results", "tracebacks", "hangs", "other")


class Hang(BaseException):
    """A call took longer than its limit."""


class Ending(NamedTuple):
    """The end of a call.

    Attributes:
        kind: one of KINDS; "other" is a refusal that is not one sentence, or another exit code than 0 and 2.
        value: exit code of a command, or what a reader returned; None where it raised.
        out, err: what was printed; err ends with the traceback where there is one.
    """

    kind: str
    value: Any
    out: str
    err: str


def ending(call: Callable[[], object], limit: int) -> Ending:
    """Call, and see how it ends; `heed_alarms` must have been called.

    Args:
        limit: seconds after which it counts as a hang.
    """
    out, err = io.StringIO(), io.StringIO()
    signal.alarm(limit)
    faulthandler.dump_traceback_later(3 * limit, exit=True, file=sys.__stderr__)  # for a hang outside Python
    value = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = value = call()
            except SystemExit as error:
                code = error.code
            except InputError as error:
                code = 2
                print(f"error: {error}", file=sys.stderr)
    except Hang:
        return Ending("hangs", None, out.getvalue(), err.getvalue() + traceback.format_exc())
    except BaseException:
        return Ending("tracebacks", None, out.getvalue(), err.getvalue() + traceback.format_exc())
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
    text = err.getvalue()
    return Ending(_kind(code, text), value, out.getvalue(), text)


def heed_alarms() -> None:
    """Have an alarm of this process raise Hang."""

    def alarm(number, frame):
        raise Hang

    signal.signal(signal.SIGALRM, alarm)


def _kind(code: object, text: str) -> str:
    if "Traceback" in text:
        return "tracebacks"
    if type(code) is not int or code == 0:
        return "results"
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    return "refusals" if code == 2 and len(errors) == 1 and text.endswith(f"{errors[0]}\n") else "other"

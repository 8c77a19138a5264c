"""The exceptions a user is meant to see."""


class InputError(Exception):
    """Bad input. The message is one sentence: which file, what was expected, what was found, what to do.

    The command line prints the message alone and exits with code 2.
    """


class OutOfMemory(InputError):
    """Memory that did not suffice, of the machine or of its GPU. The command line exits with OUT_OF_MEMORY, so that a
    launcher may try the cell again on its own."""


OUT_OF_MEMORY = 12  # exit code


def short(text: str, most: int = 80) -> str:
    """A text of the user's as a part of a sentence: what is longer than `most` letters loses its middle."""
    return text if len(text) <= most else f"{text[: most - 20]} … {text[-10:]}"


def near_miss(word: str, known, cutoff: float = 0.6) -> str:
    """Return " Did you mean 'x'?" for the closest of `known`, or "" when none is as like as `cutoff`, from 0 to 1."""
    import difflib

    close = difflib.get_close_matches(word, [str(k) for k in known], n=1, cutoff=cutoff)
    return f" Did you mean '{close[0]}'?" if close else ""

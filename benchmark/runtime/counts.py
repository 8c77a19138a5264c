"""Numbers of things in words: the plural only where there are several."""


def counted(n: int, what: str) -> str:
    """`1 slide`, `2 slides`, `0 slides`. what: a word whose plural ends with an s, in the singular."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def part_of(n: int, whole: int, what: str, verb: tuple[str, str] = ("is", "are"), more: str = "") -> str:
    """`1 of 1 slide is`, `1 of 3 slides is`, `2 of 3 slides are`.

    Args:
        verb: for one, for several. more: what stands before the verb.
    """
    return f"{n} of {counted(whole, what)}{more} {verb[n != 1]}"

"""The protocols that a command's option names."""

from benchmark.runtime.errors import InputError


def protocols(name: str, single: bool = False) -> list[str]:
    """`metrics.protocols.choose` with its errors as InputError: names of the protocols that `name` stands for."""
    from benchmark.metrics.protocols import choose

    try:
        return choose(name, single)
    except ValueError as error:
        raise InputError(str(error)) from None

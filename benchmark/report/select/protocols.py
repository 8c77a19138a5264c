"""Which protocols a table or a report is asked for."""

from benchmark.runtime.errors import InputError


def protocols(name: str, single: bool = False) -> list[str]:
    """Names of the protocols that `name` asks for, see `metrics.protocols.choose`. Raises InputError instead."""
    from benchmark.metrics.protocols import choose

    try:
        return choose(name, single)
    except ValueError as error:
        raise InputError(str(error)) from None

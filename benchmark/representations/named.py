"""Instance representations by the names that a method's argument `instances=` takes."""

from benchmark.representations.base import Representation
from benchmark.representations.cpp import CPP
from benchmark.representations.flows import Flows
from benchmark.representations.hv import HV
from benchmark.representations.stardist import StarDist
from benchmark.runtime.errors import InputError, near_miss, short

REPRESENTATIONS: dict[str, type[Representation]] = {kind.name: kind for kind in (HV, StarDist, Flows, CPP)}


def representation(name: str) -> Representation:
    """The representation called `name`. Raises InputError with a near-miss hint."""
    if name not in REPRESENTATIONS:
        known = ", ".join(REPRESENTATIONS)
        hint = near_miss(str(name), REPRESENTATIONS)
        raise InputError(f"instances is '{short(str(name))}'; expected one of {known}.{hint}")
    return REPRESENTATIONS[name]()

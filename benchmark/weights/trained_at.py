"""The resolution that a network is used to, by what its weights say: one rule for `predict`, `evaluate`, `transfer`."""

from benchmark.data import facts as data_facts
from benchmark.data.tiles import DOWN, UP
from benchmark.weights.recognise import Facts

MAGNIFIED = {20: 0.5, 40: 0.25}  # magnification -> µm/px


def tiling_of(facts: Facts, published_on: dict[str, dict[str, dict]], row: str | None) -> str:
    """In which tiling the training saw its images: a key of `postproc.stitch.STITCHED`, or "none".

    Args:
        published_on: of the method's class. row: of the method.
    """
    published = published_on.get(facts.dataset or "", {}).get(row or "", {})
    return (facts.recipe if facts.own else published).get("tiling", "none")


def trained_mpp(facts: Facts, tiling: str) -> float | None:
    """Micrometres per pixel of what the network saw in training; None where nothing says it.

    It is the resolution of the images that the weights were trained on, or of the tiles that these were enlarged to.

    Args:
        tiling: as `tiling_of` has it.
    """
    name = str(facts.dataset).partition("@")[0]
    published = data_facts.of(name).mpp if name in data_facts.names() else None
    if tiling != "none":
        own = facts.mpp or published
        return own and own * DOWN / UP
    return facts.mpp or MAGNIFIED.get(facts.magnification or 0) or published

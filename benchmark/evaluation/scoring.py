"""What is stored of scored images, the same for a run, an imported prediction and a decoding done again."""

from benchmark.data.nuclei import Nuclei
from benchmark.metrics.match import Match, match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records


def match_nuclei(truth: Nuclei, predicted: Nuclei) -> Match:
    """The one match of an image; pixel type maps where they are kept, else types per nucleus."""
    sides = []
    for nuclei in (truth, predicted):
        sides += [nuclei.instances, nuclei.types if nuclei.type_map is None else nuclei.type_map]
    return match(*sides, mpp=truth.mpp)


def image_meta(i: int, truth: Nuclei, pred_typed: bool) -> dict:
    """What `Records.collect` takes beside image i's match."""
    return {
        "image": i,
        "image_id": truth.image_id,
        "tissue": truth.tissue,
        "source": truth.source,
        "typed": truth.typed,
        "pred_typed": pred_typed,
    }


def protocol_scores(records: Records, classes: list[str], tissues: list[str]) -> dict[str, dict]:
    """Protocol name -> its version and flat scores, as metrics.json stores them."""
    return {name: {"version": p.version} | p.summary(records, classes, tissues) for name, p in PROTOCOLS.items()}

"""What each setting of the decoding gains over the first, on the same maps, with intervals over source images."""

from dataclasses import dataclass

from benchmark.metrics.records import Records
from benchmark.report.select.observations import image_frame, joined
from benchmark.report.stats.bootstrap import minus, side

METRICS = ("bPQ", "mPQ")


@dataclass(frozen=True)
class _Setting:
    """What `side` asks of a run: the key of its images."""

    folder: str


def setting_gains(records: dict[str, Records], protocol: str, classes: int) -> list[dict]:
    """A line per setting but the first, and metric: setting, metric, value (the difference), low, high, clusters.

    Args:
        records: setting's name -> Records of the same test images, the reference first.
        classes: nucleus types without background.
    """
    frames = [image_frame(one, protocol, classes) for one in records.values()]
    observed = joined(list(records), frames, [0] * len(frames))
    first, *others = records
    out = []
    for metric in METRICS:
        base = side(observed, [_Setting(first)], metric)
        for name in others:
            gain = minus(side(observed, [_Setting(name)], metric), base)
            if gain is not None:
                line = {"setting": name, "metric": metric, "value": gain.value, "low": gain.low, "high": gain.high}
                out.append(line | {"clusters": gain.clusters})
    return out

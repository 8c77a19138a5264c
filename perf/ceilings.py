"""What each instance representation loses with perfect maps, by nucleus size and crowding; no network is involved.

    python perf/ceilings.py --out docs/reference/representations

The test fold of split 1 of `synthetic@patches=168` (drawn H&E at 0.25 µm/px), and the same at 0.5 µm/px (every second
pixel of the label maps): targets, the maps that a perfect network would give, and their decoding against the truth, as
the ceiling that every run stores (`metrics.json`). Writes ceilings.csv, a row per representation, resolution and bin.
CPP-Net's targets and decoding are StarDist's.
"""

import argparse
import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmark.data.nuclei import Nuclei
from benchmark.data.sources.synthetic import Synthetic
from benchmark.evaluation import scoring
from benchmark.metrics.records import Records
from benchmark.metrics.sizes import by_crowding, by_size, by_touching
from benchmark.representations.base import Representation
from benchmark.representations.named import REPRESENTATIONS, representation
from benchmark.runtime.files import atomic
from benchmark.runtime.progress import Progress

BINS = {"diameter_um": by_size, "neighbour_um": by_crowding, "contact": by_touching}
COLUMNS = ("representation", "mpp", "by", "bin", "n_true", "tp", "fp", "PQ", "recall")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/reference/representations"))
    parser.add_argument("--patches", type=int, default=168, help="images (default 168)")
    options = parser.parse_args()
    fine = list(truths(options.patches))
    rows = []
    for mpp, step in ((0.25, 1), (0.5, 2)):
        coarse = [replace(one.with_map(one.instances[::step, ::step]), mpp=mpp) for one in fine]
        for name in sorted(REPRESENTATIONS.keys() - {"cpp"}, key=list(REPRESENTATIONS).index):
            records = perfect(representation(name), coarse)
            for by, bins in BINS.items():
                for line in bins(records).to_dict("records"):
                    shown = {k: f"{line[k]:.4f}" for k in ("PQ", "recall")}
                    counts = {k: int(line[k]) for k in ("n_true", "tp", "fp")}
                    rows.append({"representation": name, "mpp": mpp, "by": by, "bin": line["bin"]} | counts | shown)
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with atomic(options.out / "ceilings.csv", "w") as handle:
        handle.write(text.getvalue())
    print(f"written to {options.out / 'ceilings.csv'}")


def truths(patches: int) -> Iterator[Nuclei]:
    """The nuclei of the test fold of split 1."""
    source = Synthetic(patches=patches)
    (part,) = source.split(1, {}).test
    for sample in source.samples(part.fold):
        yield sample.nuclei


def perfect(way: Representation, images: list[Nuclei]) -> Records:
    """Records of decoded perfect maps against the truth."""
    show = Progress(f"{way.name}:", "images")
    scored = []
    for i, truth in enumerate(images):
        decoded = way.decode(way.ideal(way.targets(truth), 0), truth.mpp)
        scored.append(scoring.score_image(i, truth, decoded, False, shapes=False))
        show(i + 1, len(images))
    return scoring.collect(scored)


if __name__ == "__main__":
    main()

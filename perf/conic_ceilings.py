"""What each way of predicting CoNIC's patches loses with a perfect network: the first table of docs/conic.md.

    python perf/conic_ceilings.py --data-root /data/conic [--out conic_ceilings.csv]

Targets of the truth, decoded and stitched as predictions are, against the truth; binary PQ and its factors, mean over
images. No network is involved.
"""

import argparse
import csv
import io
from pathlib import Path

from benchmark.data.registry import dataset
from benchmark.evaluation import decode_score
from benchmark.evaluation.scoring import collect
from benchmark.metrics.aggregate import nanmean
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.representations.hv import HV
from benchmark.runtime.files import atomic

WAYS = ("none", "conic40", "conic40_corrected")
CLASSES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="patches in CoNIC's layout")
    parser.add_argument("--out", type=Path, help="csv with a line per way")
    options = parser.parse_args()
    source = dataset("conic", options.data_root)
    truths = [sample.nuclei for fold in source.folds() for sample in source.samples(fold)]
    rows = []
    for way in WAYS:
        scored = [decode_score.score_ideal(HV(), i, truth, CLASSES, way) for i, truth in enumerate(truths)]
        records = collect(scored)
        images = PROTOCOLS["cellvit"].images(records, CLASSES)
        row = {"tiling": way, "images": len(truths)}
        row |= {name: f"{float(nanmean(images[name])):.4f}" for name in ("bPQ", "bDQ", "bSQ")}
        row["true"], row["found"] = (f"{records.images[name].mean():.1f}" for name in ("n_true", "n_pred"))
        rows.append(row)
        print(row, flush=True)
    if options.out:
        text = io.StringIO()
        table = csv.DictWriter(text, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        with atomic(options.out, "w") as handle:
            handle.write(text.getvalue())


if __name__ == "__main__":
    main()

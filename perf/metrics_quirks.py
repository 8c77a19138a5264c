"""How much each quirk of the published metrics changes a score, on the golden cases: a Markdown table.

    python perf/metrics_quirks.py [--cases FOLDER]

Without --cases the extract in tests/golden is used. A case holds gt_inst, gt_type, pred_inst, pred_type. "with" is the
protocol as published, "without" the same records under the same protocol with this one rule changed; both are means
over the images that have a value (counts: sums), and "largest" is the image that changes most.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.metrics import panoptic
from benchmark.metrics.detection import gated, type_counts, type_scores
from benchmark.metrics.match import match
from benchmark.metrics.overlap import dice
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.protocols.objects import centroids, has_outline, points_of
from benchmark.metrics.records import Records

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
CLASSES = list("12345")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, help="folder of .npz cases")
    folder = parser.parse_args().cases
    maps = from_folder(folder) if folder else from_extract()
    print(f"{len(maps)} cases\n")
    print("| quirk | protocol, score | with | without | difference | largest in one image |")
    print("|---|---|--:|--:|--:|---|")
    for line in table(maps):
        print("| " + " | ".join(line) + " |")


def table(maps: dict[str, tuple]) -> list[list[str]]:
    """Rows of the printed table."""
    records, lines = collect(maps), []
    names = records.images["image_id"].to_numpy()

    def row(quirk, score, published, changed, total=False):
        a, b = np.asarray(published, float), np.asarray(changed, float)
        whole = [np.nansum(v) if total else np.nanmean(v) for v in (a, b)]
        by_image = np.abs(np.nan_to_num(b) - np.nan_to_num(a)) if len(a) == len(names) else np.zeros(0)
        most = f"{by_image.max():.4g} ({names[by_image.argmax()]})" if by_image.any() else "–"
        text = [f"{v:.0f}" if total else f"{v:.5f}" for v in whole]
        lines.append([quirk, score, *text, f"{whole[1] - whole[0]:+.3g}", most])

    def frame(name, of=records, classes=5):
        return PROTOCOLS[name].images(of, classes)

    cellvit, pannuke, conic, vta = (frame(n) for n in ("cellvit", "pannuke", "conic", "cellvta_conic"))
    row("Dice is 0 where the truth is empty, even if both are", "cellvit Dice", cellvit["Dice"], dice(records))
    free = np.where(cellvit["bPQ"].isna() & (records.images["n_pred"] > 0), 0.0, cellvit["bPQ"])
    row("false positives on images without true nuclei are free", "cellvit bPQ", cellvit["bPQ"], free)
    types = [pannuke[f"PQ_{k}"].where(pannuke[f"PQ_{k}"].notna() | (conic[f"fp_{k}"] == 0), 0.0) for k in range(1, 6)]
    counted = pd.concat(types, axis=1).mean(axis=1)
    row("false positives of a type absent from the image are free", "pannuke mPQ", pannuke["mPQ"], counted)
    row(
        "an image without any nucleus scores 0",
        "conic bPQ",
        conic["bPQ"],
        frame("clean")["bPQ"].where(conic["bPQ"] >= 0),
    )
    six, five = (PROTOCOLS["conic"].summary(records, list("123456")[:n], [])["mPQ"] for n in (6, 5))
    row("a type that occurs nowhere scores 0", "conic mPQ+ with a sixth, absent type", [six], [five])
    without_0 = cellvit[[f"PQ_{k}" for k in range(1, 6)]].mean(axis=1)
    row("type 0 inside true nuclei is a class of its own", "cellvit mPQ", cellvit["mPQ"], without_0)
    drawn = Records(records.images, records.overlaps, records.nuclei.assign(points=True))
    row("specks and lines vanish from the prediction", "cellvit bPQ", cellvit["bPQ"], frame("cellvit", drawn)["bPQ"])
    whole = whole_types(maps)
    row("a nucleus of mixed type is split", "pannuke bPQ", pannuke["bPQ"], frame("pannuke", whole)["bPQ"])
    row(
        "a predicted nucleus of mixed type is split",
        "cellvta_conic bPQ",
        vta["bPQ"],
        frame("cellvta_conic", whole)["bPQ"],
    )
    known = records.nuclei.assign(type=records.nuclei["type"].clip(lower=1))
    row(
        "predicted nuclei of type 0 do not count",
        "cellvit bPQ",
        cellvit["bPQ"],
        frame("cellvit", Records(records.images, records.overlaps, known))["bPQ"],
    )
    row("ids pass through float32", "cellvta_conic bPQ", vta["bPQ"], frame("cellvta_conic", renumbered(maps))["bPQ"])
    row(
        "1e-6 in the denominator of DQ",
        "cellvit bPQ",
        cellvit["bPQ"],
        cellvit["bPQ"] * (1 + 1e-6 / denominator(cellvit)),
    )
    row("1e-6 in the denominator of SQ", "pannuke bPQ", pannuke["bPQ"], pannuke["iou"] / denominator(pannuke))
    row("IoU of exactly 0.5 is no pair", "hovernet bPQ", frame("hovernet")["bPQ"], at_least_half(records))
    first = first_dropped(maps)
    row(
        "the first predicted nucleus is painted as background (read, not measured; not in the protocol)",
        "cellvta_conic bPQ",
        frame("cellvta_conic", first)["bPQ"],
        vta["bPQ"],
    )
    n = len(names)
    outlined = [points_of(records, s, has_outline(records, s)) for s in ("true", "pred")]
    near = gated(*outlined, np.full(n, 12.0))[0]
    true, pred, rows, cols, distance = centroids(records)
    kept = distance <= 12
    real = kept & (true.type[rows] > 0) & (pred.type[cols] > 0)
    row(
        "the smallest total distance comes first, the radius afterwards",
        "cellvit pairs of typed nuclei",
        np.bincount(true.image[rows[real]], minlength=n),
        np.bincount(outlined[0].image[near], minlength=n),
        total=True,
    )
    empty = np.bincount(outlined[0].image, minlength=n) + np.bincount(outlined[1].image, minlength=n)
    f1 = [
        2 * p / (t + q) for p, t, q in ((cellvit["n_paired"].sum(), cellvit["n_true"].sum(), cellvit["n_pred"].sum()),)
    ]
    dummies = [np.bincount(o.image, minlength=n) == 0 for o in outlined]
    fake = cellvit["n_paired"].where(dummies[0] | dummies[1], 0).sum()
    honest = 2 * (cellvit["n_paired"].sum() - fake) / empty.sum()
    row("an empty side becomes a nucleus at the corner", "cellvit F1", f1, [honest])
    counts = type_counts(true, pred, rows[kept], cols[kept], 5)
    doubled, once = type_scores(counts), type_scores(counts, confused=1)
    for score in ("precision", "F1"):
        row("confusions count twice", f"cellvit {score}, mean over types", doubled[score], once[score])
    x20 = collect(maps, mpp=0.5)
    paired = [frame(name, x20)["n_paired"] for name in ("cellvta_conic", "cellvit")]
    row("12 px at x20, where cellvit takes 6", "cellvta_conic pairs", *paired, total=True)
    return lines


def denominator(frame: pd.DataFrame) -> pd.Series:
    return frame["tp"] + frame["fp"] / 2 + frame["fn"] / 2


def at_least_half(records: Records) -> np.ndarray:
    """bPQ of each image with pairs of IoU >= 0.5; of two such candidates for one nucleus the first stands."""
    columns, out = records.columns, []
    for i in range(columns.n):
        at = columns.image == i
        tally = panoptic.tally(columns.image[at] * 0, columns.true[at], columns.pred[at], columns.pixels[at], 1)
        sides = [columns.side[s] for s in ("true", "pred")]
        free = [set((np.flatnonzero((s["image"] == i) & (s["match"] == 0)) + 1).tolist()) for s in sides]
        tp, iou = int(tally.tp[0]), float(tally.iou[0])
        pairs = pd.DataFrame({"t": columns.true[at], "p": columns.pred[at], "pixels": columns.pixels[at]})
        pairs = pairs[(pairs["t"] > 0) & (pairs["p"] > 0)].groupby(["t", "p"])["pixels"].sum()
        for (t, p), shared in pairs.items():
            if (
                t in free[0]
                and p in free[1]
                and 2 * shared == sides[0]["area"][t - 1] + sides[1]["area"][p - 1] - shared
            ):
                free[0].remove(t)
                free[1].remove(p)
                tp, iou = tp + 1, iou + 0.5
        fp, fn = len(free[1]), len(free[0])
        out.append(tp / (tp + fp / 2 + fn / 2) * iou / (tp + 1e-6) if tp + fp + fn else np.nan)
    return np.array(out)


def collect(maps: dict[str, tuple], mpp: float = 0.25) -> Records:
    meta = [{"image": i, "image_id": name, "pred_typed": True} for i, name in enumerate(maps)]
    return Records.collect([match(*m, mpp=mpp, shapes=False) for m in maps.values()], meta)


def whole_types(maps: dict[str, tuple]) -> Records:
    """Every nucleus painted with its majority type."""
    changed = {}
    for name, (true, true_type, pred, pred_type) in maps.items():
        matched = match(true, true_type, pred, pred_type, mpp=0.25, shapes=False)
        changed[name] = (true, matched.true.type, pred, matched.pred.type)
    return collect(changed)


def renumbered(maps: dict[str, tuple]) -> Records:
    """Ids replaced by 1, 2, … in ascending order."""
    changed = {}
    for name, (true, true_type, pred, pred_type) in maps.items():
        changed[name] = (_renumbered(true), true_type, _renumbered(pred), pred_type)
    return collect(changed)


def _renumbered(instances: np.ndarray) -> np.ndarray:
    _, numbers = np.unique(instances, return_inverse=True)
    return numbers.reshape(instances.shape) + (instances.min() > 0)


def first_dropped(maps: dict[str, tuple]) -> Records:
    """The predicted nucleus of the lowest id taken away from every image."""
    changed = {}
    for name, (true, true_type, pred, pred_type) in maps.items():
        lowest = pred[pred > 0].min(initial=np.iinfo(np.int64).max) if (pred > 0).any() else -1
        changed[name] = (true, true_type, np.where(pred == lowest, 0, pred), np.where(pred == lowest, 0, pred_type))
    return collect(changed)


def from_extract() -> dict[str, tuple]:
    """The sets of the committed extract: a stored value is id * 8 + type."""
    names = json.loads((GOLDEN / "metrics_cases.json").read_text())
    names = dict.fromkeys([*names["datasets"]["sweep_plus_nasty"]["names"], *names["images"]])
    with np.load(GOLDEN / "metrics_cases.npz", allow_pickle=False) as stored:
        sides = {n: [stored[f"{n}/{s}"].astype(np.int64) for s in ("gt", "pred")] for n in names}
    return {n: (t // 8, t % 8, p // 8, p % 8) for n, (t, p) in sides.items()}


def from_folder(folder: Path) -> dict[str, tuple]:
    maps = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            if "gt_inst" in stored:
                keys = ("gt_inst", "gt_type", "pred_inst", "pred_type")
                maps[path.stem] = tuple(stored[k].astype(np.int64) for k in keys)
    return maps


if __name__ == "__main__":
    main()

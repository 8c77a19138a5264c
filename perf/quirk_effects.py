"""How much each quirk of the published code changes, measured here: the figures of docs/faithfulness.md.

    OMP_NUM_THREADS=1 python perf/quirk_effects.py [--out reports/quirks] [--images 24]

Prints a table and writes it as csv. Losses and evaluations are measured on the golden figures in tests/golden, targets
and stitching on drawn images, the network at published size with weights filled by the rule of the golden figures
(1.6 GB, a minute on one core). Nothing is trained: these are effects on one step or one score, not on
a finished model.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from skimage.measure import label
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the rule that fills weights belongs to the tests

from benchmark.data.sources import synthetic  # noqa: E402
from benchmark.evaluation import decoding  # noqa: E402
from benchmark.layers import losses  # noqa: E402
from benchmark.layers.adapter import AdapterConfig, ViTAdapter  # noqa: E402
from benchmark.layers.cellvit_loss import LossConfig, cellvit_loss  # noqa: E402
from benchmark.methods import registry  # noqa: E402
from benchmark.methods.cellvta import official_key  # noqa: E402
from benchmark.metrics.match import match  # noqa: E402
from benchmark.metrics.protocols import PROTOCOLS  # noqa: E402
from benchmark.metrics.records import Records  # noqa: E402
from benchmark.postproc.targets import hv_targets  # noqa: E402
from benchmark.report.render.table import Block, Table, markdown, save  # noqa: E402
from benchmark.representations.hv import HV  # noqa: E402
from benchmark.runtime.paths import REPORTS  # noqa: E402
from benchmark.training import optim, sampling  # noqa: E402
from benchmark.training.recipe import Schedule  # noqa: E402
from benchmark.training.validation import raw_bpq  # noqa: E402
from tests.support.golden_weights import fill_state  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
CLASSES = ["Neoplastic", "Inflammatory", "Connective", "Dead", "Epithelial"]
HEADS = ("np", "hv", "tp")
Rows = list[dict]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPORTS / "quirks")
    parser.add_argument("--images", type=int, default=24, help="drawn images for targets and stitching")
    options = parser.parse_args()
    drawn = [sample.nuclei for sample in synthetic.Synthetic(patches=options.images).samples(3)]
    rows = loss_terms() + learning_rate() + offsets() + sampling_factors() + selection() + evaluations()
    rows += rim_targets(drawn) + conic(drawn) + network()
    header = ["quirk", "measured", "as published", "without"]
    lines = [header]
    for r in rows:
        lines.append([r["quirk"], r["measured"], _text(r["published"]), _text(r["without"])])
    table = Table("quirk-effects", "Effects of the published code's quirks", [], [Block(lines, left=2)], rows)
    save(table, options.out)
    print(markdown(table))


def row(quirk: str, measured: str, published: float, without: float) -> dict:
    return {"quirk": quirk, "measured": measured, "published": float(published), "without": float(without)}


def loss_terms() -> Rows:
    """Both switches of the loss, on the golden case (random logits, one image of two empty) and on a perfect one."""
    with np.load(GOLDEN / "losses_cellvta.npz", allow_pickle=False) as stored:
        data = {k: torch.from_numpy(stored[k]) for k in ("np", "hv", "tp", "instances", "types", "hv_true")}
    batch = {"np": (data["instances"] > 0).long(), "hv": data["hv_true"].float(), "tp": data["types"].long()}
    batch["typed"] = torch.ones(2, dtype=torch.bool)
    random = {k: data[k].float() for k in HEADS}
    sharp = {k: 16 * losses.onehot(batch[k], n) - 8 for k, n in (("np", 2), ("tp", random["tp"].shape[1]))}
    perfect = sharp | {"hv": batch["hv"].clone()}
    out = []
    for name, outputs in (("random logits", random), ("perfect logits of ±8", perfect)):
        terms = {flag: cellvit_loss(outputs, batch, LossConfig(double_softmax=flag)) for flag in (True, False)}
        for term in ("np_focal_tversky", "tp_focal_tversky"):
            out.append(row("double_softmax", f"{term} (weighted), {name}", terms[True][term], terms[False][term]))
    norms = []
    for flag in (True, False):
        leaf = random["tp"].clone().requires_grad_()
        cellvit_loss(random | {"tp": leaf}, batch, LossConfig(double_softmax=flag))["tp_focal_tversky"].backward()
        norms.append(leaf.grad.norm())
    out.append(row("double_softmax", "gradient norm of tp_focal_tversky (weighted), random logits", *norms))
    slopes, values = [], []
    for flag in (True, False):
        leaf = random["hv"].clone().requires_grad_()
        value = losses.msge(leaf, batch["hv"], batch["np"], cross=flag)
        value.backward()
        slopes.append(leaf.grad.flatten())
        values.append(value.detach())
    out.append(row("cross_msge", "msge, random maps", *values))
    out.append(
        row("cross_msge", "cosine between the two gradients", nn.functional.cosine_similarity(*slopes, dim=0), 1)
    )
    steps = torch.linspace(-1, 1, 32)
    ramps = torch.stack([steps.expand(32, 32), steps[:, None].expand(32, 32)])[None]
    inside = torch.zeros(1, 32, 32)
    inside[:, 4:-4, 4:-4] = 1
    missed = [losses.msge(torch.zeros_like(ramps), ramps, inside, cross=flag) for flag in (True, False)]
    out.append(row("cross_msge", "msge of constant maps where the truth rises from -1 to 1 over 32 px", *missed))
    return out


def learning_rate() -> Rows:
    """The decay that ran (.95) against the one in the published configuration (.85)."""
    ran, meant = (Schedule("exponential", gamma=g) for g in (0.95, 0.85))
    return [
        row(
            "decay",
            f"learning rate after {e} epochs, millionths (300 at the start)",
            *(300 * optim.lr_factor(p, e, 100, 0, 1) for p in (ran, meant)),
        )
        for e in (10, 50)
    ]


def offsets() -> Rows:
    """Distance of a new adapter's sampling points, in px of the level; published size, queries of unit variance."""
    distances = []
    for grid in (False, True):
        torch.manual_seed(0)
        adapter = ViTAdapter(1024, 4, AdapterConfig(interactions=1, offset_grid=grid))
        layer = adapter.interactions[0].injector.attn.sampling_offsets
        with torch.no_grad():
            distances.append(layer(torch.randn(256, 1024)).view(-1, 2).norm(dim=1).mean())
    return [row("offset_grid=false", "mean distance of a sampling point from its query at the start, px", *distances)]


def sampling_factors() -> Rows:
    """Constants of all PanNuke in place of the training images' own counts: how far a weight moves."""
    with np.load(GOLDEN / "sampling_weights.npz", allow_pickle=False) as stored:
        tissues = stored["image_tissue"].tolist()
        counts = stored["cell_counts_neo_inf_con_dead_epi"]
    shares = []
    for factors in ("pannuke", None):
        weights = sampling.weights(tissues, counts, "cell+tissue", 0.85, factors)
        shares.append(weights / weights.sum())
    largest = np.abs(shares[0] / shares[1] - 1).argmax()
    return [
        row(
            "factors",
            "share of draws of the image that moves most, %, 24 golden images",
            *(100 * s[largest] for s in shares),
        )
    ]


def golden_matches() -> dict:
    with np.load(GOLDEN / "metrics_cases.npz", allow_pickle=False) as stored:
        names = sorted({name.partition("/")[0] for name in stored.files})
        names = [name for name in names if name.startswith(("sweep", "empty"))]
        maps = {name: (stored[f"{name}/gt"], stored[f"{name}/pred"]) for name in names}
    return {n: match(true // 8, true % 8, pred // 8, pred % 8, mpp=0.25) for n, (true, pred) in maps.items()}


def records_of(matches: dict) -> Records:
    meta = [{"image": i, "image_id": n, "tissue": "", "pred_typed": True} for i, n in enumerate(matches)]
    return Records.collect(list(matches.values()), meta)


def selection() -> Rows:
    """The bPQ by which the published trainings select against the one that they report, on the golden cases."""
    matches = golden_matches()
    out = []
    for what, chosen in (
        ("drawn images of 1 to 300 nuclei", {n: m for n, m in matches.items() if n.startswith("sweep")}),
        ("the same and the images without true nuclei", matches),
    ):
        records = records_of(chosen)
        reported = PROTOCOLS["cellvit"].images(records, 5)["bPQ"].mean()
        out.append(
            row("selection", f"validation bPQ against test bPQ: {what} ({len(chosen)})", raw_bpq(records), reported)
        )
    return out


def evaluations() -> Rows:
    """The published evaluation against `clean`, which has none of its exceptions, on the golden cases."""
    records = records_of(golden_matches())
    published, clean = (PROTOCOLS[p].summary(records, CLASSES, []) for p in ("cellvit", "clean"))
    shared = [k for k in ("bPQ", "mPQ", "F1", "Dice") if k in published and k in clean]
    out = [row("protocol cellvit", f"{k} against protocol clean, golden cases", published[k], clean[k]) for k in shared]
    wide, near = (PROTOCOLS[p].summary(at_x20(), CLASSES, [])["F1"] for p in ("cellvta_conic", "cellvit"))
    return [*out, row("radius", "detection F1 with 12 px at x20 against 6 px, golden cases", wide, near)]


def at_x20() -> Records:
    """The golden cases as if at 0.5 µm/px."""
    with np.load(GOLDEN / "metrics_cases.npz", allow_pickle=False) as stored:
        names = sorted({n.partition("/")[0] for n in stored.files if n.startswith("sweep")})
        maps = [[stored[f"{n}/{s}"] for s in ("gt", "pred")] for n in names]
    return records_of({n: match(g // 8, g % 8, p // 8, p % 8, mpp=0.5) for n, (g, p) in zip(names, maps)})


def rim_targets(drawn: list) -> Rows:
    """HoVer-Net's distances in a centred crop: nucleus pixels of the crop whose target is left at zero."""
    zero = np.zeros(3)
    for nuclei in drawn:
        centre = (slice(46, 210), slice(46, 210))
        crop = nuclei.instances[centre]
        published = hv_targets(nuclei.instances, "hovernet", (164, 164))
        own = hv_targets(label(crop, background=0, connectivity=1))
        inside = crop > 0
        zero += [inside.sum(), (inside & ~published.any(0)).sum(), (inside & ~own.any(0)).sum()]
    return [row("rim_targets", "nucleus pixels of the crop without a distance, %", *(100 * zero[1:] / zero[0]))]


def conic(drawn: list) -> Rows:
    """The published x40 stitching on perfect maps of 256 px patches, and the lost first cell alone."""
    usable = [n for n in drawn if len(n) > 1]
    scores: dict[str, list] = {"conic40": [], "conic40_corrected": [], "first": [], "all": []}
    counts = dict.fromkeys(scores, 0)
    for truth in usable:
        kept = {
            name: decoding.decode(HV(), decoding.ideal(HV(), truth, 5, name), truth.mpp, name).instances
            for name in STITCHINGS
        }
        kept["all"] = truth.instances
        kept["first"] = np.where(truth.instances == 1, 0, truth.instances)
        for name, instances in kept.items():
            matched = match(
                truth.instances, truth.types, instances, np.ones(len(np.unique(instances)) - 1, np.uint8), mpp=truth.mpp
            )
            scores[name].append(raw_bpq(records_of({"": matched})))
            counts[name] += len(np.unique(instances)) - 1
    bpq = {name: np.mean(values) for name, values in scores.items()}
    what = f"{len(usable)} drawn images with perfect maps"
    return [
        row("tiling=conic40", f"bPQ, {what}", bpq["conic40"], bpq["conic40_corrected"]),
        row(
            "tiling=conic40", f"nuclei found of {counts['all']}, {what}", counts["conic40"], counts["conic40_corrected"]
        ),
        row(
            "first cell lost",
            f"bPQ of the truth without its first cell, {len(usable)} drawn images",
            bpq["first"],
            bpq["all"],
        ),
    ]


STITCHINGS = ("conic40", "conic40_corrected")


def network() -> Rows:
    """CellVTA at published size, weights by rule, one 256 px image: deviations in standard deviations of each head."""
    with torch.device("meta"):
        method = registry.build("cellvta@paper", 5, 19)
    shapes = [(official_key(k), tuple(v.shape)) for k, v in method.state_dict().items()]
    method.load_state_dict(method.adapt(fill_state(shapes)), strict=True, assign=True)
    method.eval().requires_grad_(False)
    rng = np.random.Generator(np.random.PCG64(7))
    image, other = (torch.from_numpy(rng.random((1, 3, side, side)).astype(np.float32)) for side in (256, 64))
    with torch.inference_mode():
        plain, elsewhere = method(image), method(other)["tissue"]
        method.adapter.cls_in_vit = True
        seen, seen_elsewhere = method(image), method(other)["tissue"]
        method.adapter.cls_in_vit = False
        method.train()
        for module in method.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        torch.manual_seed(0)
        dropped = method(image)
    blind, seeing = ((a["tissue"] - b).abs().max() for a, b in ((plain, elsewhere), (seen, seen_elsewhere)))
    out = [row("cls_in_vit=false", "largest change of a tissue logit between two images", blind, seeing)]
    for name, outputs in (("cls_in_vit=false", seen), ("drop_path=0.4", dropped)):
        for head in (*HEADS, "tissue"):
            off = (outputs[head] - plain[head]).abs().mean() / plain[head].std()
            what = "with and without it" if name != "drop_path=0.4" else "a training and an evaluation pass"
            out.append(row(name, f"mean difference of {head} between {what}, standard deviations", off, np.nan))
    return out


def _text(value: float) -> str:
    if np.isnan(value):
        return "–"
    if 0 < abs(value) < 1e-6:
        return "<1e-6"  # rounding of float32
    return f"{value:.3g}"


if __name__ == "__main__":
    main()

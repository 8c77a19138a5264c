"""A foreign tool's predictions of a test fold, stored as a run: the same records, scores and predictions."""

import sys
from pathlib import Path

import numpy as np

from benchmark.data.files import checks
from benchmark.evaluation import foreign
from benchmark.evaluation.scoring import collect, protocol_scores, score_image
from benchmark.formats.collection import Collection, Image
from benchmark.results import provenance
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from benchmark.runtime.progress import Progress


def store(
    identity, folder: RunFolder, data, pred: Collection, missing: str = "refuse", remark: str = ""
) -> dict[str, dict]:
    """Score `pred` against the test side of the split and write the run folder; an earlier one is replaced.

    Args:
        identity: RunId of kind "imported".
        data: the `data.store.prepare.Prepared` dataset.
        pred: images named by the dataset's image ids, or as many as the test side, in its order.
        missing: "refuse" or "empty", as in `evaluation.foreign.assigned`.
        remark: a sentence for the tables, on the classes of the predictions; "" for none.

    Returns:
        {protocol: scores}, as stored.

    Raises:
        InputError: anything wrong with the predictions; nothing is written then.
    """
    story = provenance.describe(identity.seed, "cpu", "none", data.fingerprint(identity.split))
    subset = data.subset(identity.split, "test")
    images = assigned(pred, subset.image_ids, missing)
    show = Progress("imported:", "images", end=False)
    show(0, len(images))
    scored = []
    with checks.Doubts(data.classes) as doubts:
        for i, image in enumerate(images):
            truth = subset[i].nuclei
            labelled = foreign.read_prediction(image, truth.instances.shape, f"'{truth.image_id}' of the test set")
            scored.append(score_image(i, truth, labelled.nuclei(truth.mpp), labelled.typed, keep=True))
            if image:
                doubts.add(image.where, labelled.instances, labelled.types)
            show(i + 1, len(images))
    records = collect(scored, from_files=("pred",))
    scores = protocol_scores(records, list(data.classes), list(data.tissues))
    untyped = int((~np.asarray(subset.typed)).sum())
    packed = [image.prediction for image in scored if image.prediction]
    with folder.lock():  # another import of the same name waits for its turn
        folder.finish(
            config=describe(identity, data, pred.path, remark),
            records=records,
            predictions=packed,
            provenance=story | {"licences": {"data": data.licence or None}, "finished": provenance.now()},
            cost={},
            metrics={"key": None, "protocols": scores, "n_images": len(images), "n_untyped": untyped},
        )
    return scores


def describe(identity, data, path: Path, remark: str) -> dict:
    """The contents of config.json."""
    remarks = {"remarks": [remark]} if remark else {}
    return {
        "dataset": identity.dataset,
        "method": identity.method,
        "name": identity.method,
        "fold": identity.split,
        "seed": identity.seed,
        "kind": identity.kind,
        "classes": list(data.classes),
        "tissues": list(data.tissues),
        "mpp": data.mpp,
        "imported": {"from": Path(path).name} | remarks,
    }


def assigned(pred: Collection, ids: list[str], missing: str) -> list[Image | None]:
    """The prediction of each test image, by name; a file without names is taken in the test side's order.

    Raises:
        InputError: as `evaluation.foreign.assigned`, or another number of images without names.
    """
    if pred.named:
        return foreign.assigned(ids, "the test set", pred, missing)
    if len(pred.images) != len(ids):
        raise InputError(
            f"{pred.path}: expected {len(ids)} images, as the test set has, found {len(pred.images)}; add names (N,)."
        )
    print(f"{pred.path}: has no names; its images are taken in the order of the test set", file=sys.stderr)
    return list(pred.images)

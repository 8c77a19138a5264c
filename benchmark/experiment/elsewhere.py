"""Weights on images of another data set than they were trained on: which classes, resolution and images count there."""

import hashlib
import json

from benchmark.data.files.class_names import ClassMap, Matched, by_shared_names, matched
from benchmark.data.files.names import key
from benchmark.data.overlap import Overlap, merged, of_origin
from benchmark.data.sources import class_map
from benchmark.data.sources.conic import TAKEN_FROM
from benchmark.data.store.prepare import prepare
from benchmark.evaluation import resampling
from benchmark.runtime.errors import InputError
from benchmark.weights.fit import without_scheme
from benchmark.weights.recognise import Facts
from benchmark.weights.trained_at import trained_mpp

OF_LIZARD = ("conic", "lizard")  # CoNIC is cut from Lizard's images


def other_data(facts: Facts, label: str) -> bool:
    """Whether weights were trained on another data set than this one, by its name in results; False: not known to be.

    A scheme makes no other data set: its images are the same. A data set is another than several that hold it.
    """
    if facts.sets:
        return facts.dataset != label
    return facts.dataset is not None and without_scheme(facts.dataset) != without_scheme(label)


def match_classes(facts: Facts, own, classes, label: str, user_map: ClassMap | None) -> Matched:
    """Which class of the data is each that the weights predict.

    Of weights from another data set, or another scheme of this one, the classes that both have are scored.

    Raises:
        InputError: as `class_names.by_shared_names`; where both are of one data set, as `class_names.matched`.
    """
    match = matched if facts.dataset in (None, label) else by_shared_names
    return match(own, classes, str(facts.path), f"the dataset {label}", user_map)


def schemes(own, dataset: str, classes) -> str:
    """A sentence on the known schemes that give a data set, as it is, the classes that weights predict; "" without any.

    Args:
        own: classes that the weights predict. dataset: as DATASET= has it. classes: its own.
    """
    wanted, (name, _, words) = {key(word) for word in own}, dataset.partition("@")
    known = class_map.known(name) if classes and "classes=" not in words else []
    fitting = [word for word in known if {*map(key, class_map.read(word, name, tuple(classes)).classes)} == wanted]
    return f"The data have the classes of the weights as {name}@classes={fitting[0]}." if fitting else ""


def seen_mpp(facts: Facts, label: str, mpp: float, tiling: str) -> float | None:
    """Micrometres per pixel at which images of another data set are seen; None: as they are, or where nothing says it.

    It is the resolution of `trained_mpp`.

    Args:
        label: of the data set that is tested. mpp: of its images.
        tiling: as `trained_at.tiling_of` has it.
    """
    if not other_data(facts, label):
        return None
    trained = trained_mpp(facts, tiling)
    return trained if trained and resampling.differs(mpp, trained) else None


def resampled(seen: float | None, mpp: float) -> str:
    """The sentence on resampled images; "" where none are."""
    if seen is None:
        return ""
    return (
        f"The images, of {mpp:g} µm/px, are resampled to the {seen:g} µm/px of the training, and the nuclei brought "
        f"back (rule {resampling.RULE}) and matched with the truth at {mpp:g} µm/px."
    )


def known_overlap(facts: Facts, setup, split: int) -> Overlap | None:
    """What weights have seen of a test side as far as the data sets' names tell, without the training images.

    Args:
        setup: whose data set is tested. split: of it.

    Returns:
        None where they tell nothing.

    Raises:
        InputError: the data sets hold images of each other, and nothing says which.
    """
    if not other_data(facts, setup.label):
        return None
    tested, known = setup.label.partition("@")[0], []
    for name in facts.sets or (str(facts.dataset),):
        trained = name.partition("@")[0]
        if (
            facts.sets and trained == tested
        ):  # its own test side; another split than the training's is refused elsewhere
            continue
        if trained in OF_LIZARD and tested in {*TAKEN_FROM, *OF_LIZARD}:
            raise InputError(
                f"{facts.path}: it was trained on {facts.dataset}, which holds images of {tested}, and nothing here "
                "says which: this overlap cannot be removed; `transfer`, which looks at the training images, may tell."
            )
        if trained in TAKEN_FROM and tested in OF_LIZARD:
            # the run prepares the data again: it says the remarks, and compares the hashes
            data = prepare(setup.source, setup.cache, split, verify=False, remark=False)
            known.append(of_origin(trained, data, split))
    return merged(known, f"test images of {setup.label}") if known else None


def identity(match: Matched | None, seen: float | None, overlap: Overlap | None) -> dict:
    """Entries of a result's identity: nothing where the weights are evaluated as those of the same data set are."""
    out: dict = {}
    if match and match.shared is not None:
        out["shared classes"] = list(match.shared)
    if seen is not None:
        out |= {"seen mpp": seen, "resampling": resampling.RULE}
    if overlap and overlap.left_out:
        out["left out"] = list(overlap.left_out)
    return out


def tested_mark(overlap: Overlap | None, saw_types: bool) -> str:
    """What the name of a result's folder adds where it is no test of the whole test side with all types; "" elsewhere.

    `transfer` knows the training images and `evaluate` does not: both test the same file on the same split, and neither
    may take the place of the other's result.

    Args:
        saw_types: as of `weights_source.FromFile`.
    """
    out = "" if saw_types else ",types=none"
    if overlap and overlap.left_out:
        positions = hashlib.sha256(json.dumps(list(overlap.left_out)).encode()).hexdigest()[:8]
        out += f",left_out={len(overlap.left_out)}-{positions}"
    return out


def tested_words(overlap: Overlap | None, saw_types: bool) -> str:
    """The same for the rows of tables, where it is alike for all splits of the training."""
    known = ", without images known to the training" if overlap and overlap.left_out else ""
    return ("" if saw_types else ", without types") + known


def scored_classes(match: Matched | None, classes) -> tuple[str, ...]:
    """The classes by which nuclei are scored: the data's, or those of both sides."""
    return tuple(classes) if match is None or match.shared is None else match.shared


def describe(
    facts: Facts, label: str, classes, match: Matched | None, seen: float | None, overlap: Overlap | None
) -> dict:
    """The entry `transfer` of config.json; {} for the data set that the weights were trained on.

    trained: the run, or {"dataset": …} of a published file. seen_mpp, resampling: null without resampling. classes:
    that mPQ is of, null for weights without types. true_types: of each class of the data the number among these, where
    they are others. overlap: counts of `data.overlap.Overlap`, absent where it was not looked into.
    """
    if not other_data(facts, label) and (match is None or match.shared is None):
        return {}
    entry: dict = {"trained": facts.run or {"dataset": facts.dataset}, "seen_mpp": seen}
    entry["classes"] = None if match is None else list(scored_classes(match, classes))
    entry["true_types"] = list(match.true) if match and match.shared is not None else None
    if seen is not None:
        entry["resampling"] = resampling.RULE
    if overlap is not None:
        entry["overlap"] = {
            "images": overlap.images,
            "left_out": len(overlap.left_out),
            "by_name": overlap.by_name,
            "by_pixels": overlap.by_pixels,
            "unknown": overlap.unknown,
        }
    return {"transfer": entry}

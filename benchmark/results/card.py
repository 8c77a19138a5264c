"""The card of a run: what it is and what may not be concluded from it, in the form of Hugging Face's model cards.

The text is made from the files of a finished run alone. What they do not say is "not recorded". Times are left out, so
that a training that was killed and resumed has the same card.
"""

import json
import math
import re
import shlex
from pathlib import Path

from benchmark.results import manifest
from benchmark.results.run import Run, words
from benchmark.results.run_id import is_drawn
from benchmark.runtime.control_signs import visible

UNKNOWN = "not recorded"
SCORES = ("bPQ", "mPQ", "DQ", "SQ", "F1", "Dice")
NAMES = {"DQ": "bDQ", "SQ": "bSQ"}  # a score -> its key in metrics.json, where that differs
WHAT = {
    "main": "Trained here by the matched recipe, which all methods of the experiment share.",
    "published": "Trained here by the recipe of the method's publication.",
    "official": "Not trained here: weights from a published file, evaluated.",
    "evaluated": "Not trained here: weights of a run of this benchmark, evaluated.",
    "imported": "Predictions of another tool, scored here. Nothing is recorded of the model that made them.",
}
TRAINED = ("main", "published")


def card(run: Run) -> str:
    """The card of a finished run, Markdown with a front matter in YAML. Names in it hold no live markup."""
    sections = {
        "Model": _model(run),
        "Weights": _weights(run),
        "Data": _data(run),
        "Training": _training(run),
        "Results": _results(run),
        "Origin": _origin(run),
        "How to use": _use(run),
        "What may not be concluded": _limits(run),
    }
    what = "A method with nothing to train, run as it is." if _has_nothing_to_train(run) else WHAT[run.id.kind]
    out = [f"---\n{_front(run)}---\n", f"# {_plain(str(run.id))}\n", f"{what}\n"]
    for title, lines in sections.items():
        out += [f"## {title}\n", "\n".join(lines) + "\n"]
    return "\n".join(out)


def _front(run: Run) -> str:
    """The front matter; without model-index where no model is known. No licence is stated for trained weights."""
    import yaml

    config = run.config
    front: dict = {"tags": ["image-segmentation", "instance-segmentation", "nuclei", "histopathology", "benchmark"]}
    front |= {"datasets": [run.id.dataset], "metrics": ["panoptic-quality", "f1"]}
    if run.id.kind != "imported":
        front = {"license": "unknown", "pipeline_tag": "image-segmentation"} | front
        front["model-index"] = [{"name": run.id.method, "results": [_result(run)]}]
    if config.get("recipe") or config.get("file"):
        front = {"library_name": "pytorch"} | front
    return yaml.safe_dump(_visible(front), sort_keys=False, allow_unicode=True, width=120)


def _result(run: Run) -> dict:
    of_dataset = {"type": run.id.dataset, "name": run.id.dataset, "split": f"test, published split {run.id.split}"}
    values = [
        {"type": name, "name": f"{name} (protocol {protocol})", "value": round(float(value), 4)}
        for protocol, scores in sorted(run.metrics["protocols"].items())
        for name in ("bPQ", "mPQ")
        if _is_number(value := scores.get(name))
    ]
    return {"task": {"type": "image-segmentation"}, "dataset": of_dataset, "metrics": values}


def _model(run: Run) -> list[str]:
    config, cost = run.config, run.cost
    if run.id.kind == "imported":
        source = (config.get("imported") or {}).get("from")
        return [f"- tool: {_code(run.id.method)}", f"- read from: {_code(source)}", f"- its model: {UNKNOWN}"]
    return [
        f"- method: {_code(run.spec)}, of scale {_code(run.scale)}",
        f"- arguments: {_code(_json(config.get('arguments')))}",
        f"- parameters: {_whole(cost.get('params'))}, trainable: {_whole(cost.get('trainable'))}",
        f"- GFLOPs per test image: {_number(cost.get('gflops'))}, precision: {_code(cost.get('precision'))}",
        f"- licence of the code: {_licence(run, 'code')}",
    ]


def _weights(run: Run) -> list[str]:
    if run.id.kind == "imported":
        return [f"- {UNKNOWN}"]
    if file := run.config.get("file") or {}:
        lines = [
            f"- file: {_code(file.get('name'))}, SHA-256 {_code(file.get('sha256'))}",
            f"- layout: {_code(file.get('layout'))}, trained for split: {_code(file.get('split'))}",
            f"- licence of the file: {UNKNOWN}",
        ]
        return lines + [f"- {_plain(remark)}" for remark in file.get("remarks") or []]
    backbone, initial = run.backbone
    encoder = f"{_code(backbone)} from {_code(initial)}" if backbone else "none that is filled from a file"
    made_here = initial == "random" or "pretext" in initial
    licence = "no published weights filled it" if made_here else f"licence: {_licence(run, 'weights')}"
    stored = manifest.files_of(run.metrics).get("weights.safetensors")
    kept = f"`weights.safetensors`, SHA-256 {_code(stored['sha256'])}" if stored else "none is listed"
    lines = [
        f"- encoder before training: {encoder}" + (f"; {licence}" if backbone else ""),
        f"- stored by this run: {kept}",
    ]
    if stored:
        lines.append("- licence of these: none is stated; they derive from code, encoder and data of this card")
    return lines


def _data(run: Run) -> list[str]:
    config, untyped = run.config, run.metrics.get("n_untyped")
    return [
        f"- data set: {_code(run.id.dataset)}, published split {run.id.split}, {_code(config.get('mpp'))} µm per pixel",
        f"- classes: {_listed(config.get('classes'))}",
        f"- tissues: {_listed(config.get('tissues'))}",
        f"- test images: {_whole(run.metrics.get('n_images'))}, of which without types: {_whole(untyped)}",
        f"- fingerprint: {_code(run.provenance.get('data_fingerprint'))}",
        f"- licence: {_licence(run, 'data')}",
    ]


def _training(run: Run) -> list[str]:
    config, metrics = run.config, run.metrics
    if run.id.kind not in TRAINED:
        return [f"- not trained in this run; recipe and seeds of the training: {UNKNOWN}"]
    if _has_nothing_to_train(run):
        return ["- the method has nothing to train"]
    if not config.get("recipe"):
        return [f"- recipe: {UNKNOWN}"]
    epoch = metrics.get("best_epoch")
    changed = "in nothing" if config.get("settings") == {} else _code(run.settings)
    best = epoch + 1 if isinstance(epoch, int) and epoch >= 0 else None
    return [
        f"- recipe: {_code(_json(config['recipe']))}",
        f"- differs from the recipe that its kind shares: {changed}",
        f"- seed: {run.id.seed}",
        f"- epochs: {_whole(run.cost.get('epochs'))}, weights of epoch: {_whole(best)}, its validation bPQ: "
        f"{_number(metrics.get('val_bPQ'))}",
    ]


def _results(run: Run) -> list[str]:
    lines = [f"| protocol | {' | '.join(SCORES)} |", f"|---|{'---:|' * len(SCORES)}"]
    for protocol, scores in sorted(run.metrics["protocols"].items()):
        values = [_number(scores.get(NAMES.get(name, name)), "–") for name in SCORES]
        version = scores.get("version")
        name = f"{_plain(protocol)}{f' {version:g}' if _is_number(version) else ''}"
        lines.append(f"| {name} | {' | '.join(values)} |")
    ceiling = (run.metrics.get("ceiling") or {}).get("bPQ")
    lines += ["", "Test side of the split; DQ and SQ are of bPQ. Intervals: `python -m benchmark table` computes them."]
    if _is_number(ceiling):
        lines.append(f"bPQ that decoding perfect maps reaches on these images: {_number(ceiling)}.")
    return lines


def _origin(run: Run) -> list[str]:
    origin = run.provenance
    dirty = f", with uncommitted changes {_code(origin['dirty'])}" if origin.get("dirty") else ""
    lines = [
        f"- commit: {_code(origin.get('commit'))}{dirty}",
        f"- command: {_code(origin.get('command'))}",
        f"- hardware: {_code(words(origin.get('hardware') or {}))}, processes: {_whole(run.cost.get('processes'))}",
        f"- versions: {_code(words(origin.get('versions') or {}))}",
        f"- operator: {_code(origin.get('op_backend'))}, execution: {_code(words(origin.get('execution') or {}))}",
        f"- key of the result: {_code(run.metrics.get('key'))}",
    ]
    if origin.get("package"):
        lines.insert(1, f"- package of the method: {_code(origin['package'])}")
    return lines + ([f"- adopted from: {_code(origin.get('adopted_from'))}"] if origin.get("adopted") else [])


def _use(run: Run) -> list[str]:
    folder = Path("RUN")
    lines = [
        f"- {_code(folder)} stands for the folder of this card.",
        f"- compare the files with their hashes: {_code(_command('verify', folder))}",
    ]
    if "weights.safetensors" in manifest.files_of(run.metrics):
        weights = folder / "weights.safetensors"
        own = ("--images", "IMAGES", "--out", "OUT", "--mpp", "MPP")
        lines.append(f"- find nuclei in your images: {_code(_command('predict', '--weights', weights, *own))}")
    if "predictions.npz" in manifest.files_of(run.metrics):
        lines.append(f"- the predictions on the test images: {_code(folder / 'predictions.npz')}")
    return lines


def _command(*parts) -> str:
    return shlex.join(["python", "-m", "benchmark", *map(str, parts)])


def _limits(run: Run) -> list[str]:
    """What would be read into the numbers and does not follow from them."""
    lines = ["- One run: nothing follows on how results vary between seeds and splits."]
    if is_drawn(run.id.dataset):
        lines.append("- The images are drawn, not scanned: how methods rank on tissue does not follow.")
    if run.id.kind in TRAINED and run.scale != "paper" and not _has_nothing_to_train(run):
        lines.append(
            f"- Scale {_code(run.scale)}: small networks, short training. No published figure is of this scale."
        )
    if run.id.kind in TRAINED and run.settings:
        lines.append("- The recipe differs from the one that its kind shares; the difference is part of the result.")
    encoder, initial = run.backbone if run.id.kind in TRAINED else ("", "")
    if encoder and "pretext" in initial:
        lines.append("- The encoder learned on drawn images: nothing follows on pathology foundation models.")
    if encoder and initial == "random":
        lines.append("- The encoder began at random: nothing follows on pretrained encoders.")
    if run.id.kind not in TRAINED:
        lines.append("- What it was trained on is known as far as it stands above only; test images may be among it.")
    if run.provenance.get("dirty"):
        lines.append("- The code was not committed: the commit alone does not make this result again.")
    lines.append("- Scores of two protocols are not comparable; nor are those on other test images.")
    return [*lines, "- Nothing here was validated for clinical use."]


def _has_nothing_to_train(run: Run) -> bool:
    return run.id.kind in TRAINED and run.config.get("recipe") == {}


def _licence(run: Run, what: str) -> str:
    licences = run.provenance.get("licences")
    return _code(licences.get(what) if isinstance(licences, dict) else None)


def _code(value) -> str:
    """A value of a file on one line, as a span of code, in which no markup is live; UNKNOWN where there is none."""
    text = visible(" ".join(str(value).split())) if value is not None else ""
    if not text:
        return UNKNOWN
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _plain(text: str) -> str:
    """A sentence with names in it, on one line, without live markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&~])", r"\\\1", visible(" ".join(str(text).split())))


def unescaped(text: str) -> str:
    """A card's text for readers who see it as it is, where no markup can be live."""
    return re.sub(r"\\([\\`*_{}\[\]<>#|!&~])", r"\1", text)


def _visible(value):
    if isinstance(value, dict):
        return {key: _visible(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_visible(one) for one in value]
    return visible(" ".join(value.split())) if isinstance(value, str) else value


def _listed(names) -> str:
    return UNKNOWN if names is None else ", ".join(map(_code, names)) or "none"


def _json(value) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value, absent: str = UNKNOWN) -> str:
    return f"{value:.4f}" if _is_number(value) else absent


def _whole(value) -> str:
    return f"{value:,}" if isinstance(value, int) else UNKNOWN

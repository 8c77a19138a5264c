"""The cards of a group's runs: what each is, where it comes from, and what may not be concluded from it."""

from benchmark.report.page.section import Card
from benchmark.report.select.groups import KINDS, Group, Row, shown_weights
from benchmark.results.run import Run, words

RECIPE = ("epochs", "batch", "optimiser", "schedule", "crop", "augment", "precision", "keep")


def cards(group: Group) -> list[Card]:
    """A card per run of a group, in the order of its rows."""
    return [_card(group, row, run) for row in group.rows for run in row.runs]


def _card(group: Group, row: Row, run: Run) -> Card:
    recipe, provenance = run.config.get("recipe") or {}, run.provenance
    values = [f"{key} {_text(recipe[key])}" for key in RECIPE if recipe.get(key) is not None]
    images = run.metrics.get("n_images")
    facts = {
        "method": run.id.method,
        "weights": _weights(run),
        "data": f"{run.id.dataset}, split {run.id.split}" + (f", {images} test images" if images else ""),
        "experiment": f"{KINDS.get(run.id.kind, 'experiment')} ({run.id.kind}), preset {run.scale}",
        "recipe": ", ".join(values),
        "settings": run.settings,
        "seed": str(run.id.seed),
        "hardware": words(provenance["hardware"]) if provenance.get("hardware") else "",
        "commit": _commit(provenance),
        "command": words(provenance["command"]) if provenance.get("command") else "",
        "finished": str(provenance.get("finished") or ""),
        "may not be concluded": _limits(group, run),
    }
    title = f"{row.label}, fold {run.id.split}, seed {run.id.seed}"
    return Card(title, [(name, text or "–") for name, text in facts.items() if text or name != "settings"])


def _limits(group: Group, run: Run) -> str:
    """What nobody may conclude from this run alone."""
    out = ["One training with one seed: how another seed or another training set would score is not known."]
    if group.dataset.partition("@")[0] == "synthetic":
        out.append("The images are drawn: nothing follows for scanned tissue.")
    if run.scale != "paper":
        out.append(f"Preset {run.scale}: nothing follows for the published size and training.")
    if not run.config["classes"]:
        out.append("The data have no types: nothing follows for the classification of nuclei.")
    out.append("Not validated for clinical use.")
    return " ".join(out)


def _weights(run: Run) -> str:
    name, weights = run.backbone
    encoder = f"encoder {name}, {shown_weights(weights)}" if name else ""
    file = run.config.get("file") or {}
    own = f"{file.get('name')}, sha256 {str(file.get('sha256'))[:12]}" if file else ""
    return "; ".join(text for text in (own, encoder) if text)


def _commit(provenance: dict) -> str:
    commit = str(provenance.get("commit") or "")
    return f"{commit} with uncommitted changes" if commit and provenance.get("dirty") else commit


def _text(value) -> str:
    """A value of the recipe on one line."""
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {_text(item)}' for key, item in value.items() if item is not None)})"
    return " ".join(map(_text, value)) if isinstance(value, list) else str(value)

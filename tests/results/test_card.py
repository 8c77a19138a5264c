"""The card of a run: its sections from the files, nothing invented, nothing live, and the files that hold it."""

import json
import re

import numpy as np
import pytest
import yaml

from benchmark.cli import main
from benchmark.commands import card as command
from benchmark.results import manifest
from benchmark.results.card import UNKNOWN, _plain, card, unescaped
from benchmark.results.collect import finished
from benchmark.results.kept import adopt, keep
from benchmark.results.run_folder import RunFolder
from benchmark.results.verify import verify
from benchmark.runtime.paths import ROOT
from tests.support.report_runs import make_run, squares

SECTIONS = ["Model", "Weights", "Data", "Training", "Results", "Origin", "How to use", "What may not be concluded"]
KEPT = sorted(path.parent for path in (ROOT / "docs/reference").rglob("compact.json"))
SHOWN = list({run.parent.name.partition(",recipe.optimiser")[0]: run for run in KEPT}.values())  # an arm of each search


@pytest.fixture
def make(tmp_path):
    squares().save(tmp_path / "records")
    return lambda method="cellvta@small", **how: make_run(tmp_path / "results", tmp_path / "records", method, **how)


def parts(text: str) -> tuple[dict, dict[str, str]]:
    """(front matter, title of a section -> its text)."""
    empty, front, body = text.split("---\n", 2)
    assert empty == ""
    found = re.split(r"^## (.*)\n", body, flags=re.MULTILINE)
    return yaml.safe_load(front), dict(zip(found[1::2], found[2::2], strict=True))


def test_what_a_trained_run_says(make):
    settings = {"recipe.optimiser.lr": 0.0005}
    front, sections = parts(card(finished(make(settings=settings, weights="synthetic pretext:00aa", scale="small"))))
    assert list(sections) == SECTIONS
    assert front["library_name"] == "pytorch" and front["license"] == "unknown" and front["datasets"] == ["synthetic"]
    ((model, (result,)),) = [(one["name"], one["results"]) for one in front["model-index"]]
    assert model == "cellvta@small" and result["dataset"]["split"] == "test, published split 1"
    assert {"type": "bPQ", "name": "bPQ (protocol cellvit)", "value": 0.5} in result["metrics"]
    assert "parameters: 1,500,000, trainable: 250,000" in sections["Model"]
    assert "`tiny` from `synthetic pretext:00aa`; no published weights filled it" in sections["Weights"]
    assert "`Neoplastic`, `Inflammatory`" in sections["Data"] and "fingerprint: `f1`" in sections["Data"]
    assert '"lr": 0.001' in sections["Training"] and "`optimiser.lr 0.0005`" in sections["Training"]
    assert "weights of epoch: 5" in sections["Training"], "epochs are counted from 1 for people"
    assert re.search(
        r"^\| cellvit \d+ \| 0\.5000 \| 0\.2500 \| 0\.7000 \| 0\.7000 \| 0\.8000 \| 0\.8000 \|$",
        sections["Results"],
        re.M,
    )
    assert "`0123456789abcdef`" in sections["Origin"] and "`2 cores`" in sections["Origin"]
    limits = sections["What may not be concluded"]
    assert "drawn, not scanned" in limits and "Scale `small`" in limits and "learned on drawn images" in limits
    assert "recipe differs" in limits and "uncommitted" not in sections["Origin"]


def test_what_is_not_recorded_is_said_to_be(make):
    folder = make()
    for name in ("cost.json", "provenance.json"):
        (folder / name).unlink()
    _, sections = parts(card(finished(folder)))
    for section, line in (
        ("Model", f"parameters: {UNKNOWN}, trainable: {UNKNOWN}"),
        ("Model", f"licence of the code: {UNKNOWN}"),
        ("Data", f"licence: {UNKNOWN}"),
        ("Training", f"differs from the recipe that its kind shares: {UNKNOWN}"),
        ("Origin", f"commit: {UNKNOWN}"),
        ("Origin", f"hardware: {UNKNOWN}"),
    ):
        assert f"- {line}" in sections[section], section


def test_data_without_types_have_none(make):
    assert "- classes: none\n" in parts(card(finished(make(classes=[]))))[1]["Data"]


def test_imported_predictions_have_no_model(make):
    folder = make("mytool", kind="imported", cost={}, imported={"from": "p.npz"}, recipe=None, backbone=None)
    front, sections = parts(card(finished(folder)))
    assert not {"license", "library_name", "model-index", "pipeline_tag"} & front.keys()
    assert sections["Model"].splitlines()[1:4] == [
        "- tool: `mytool`",
        "- read from: `p.npz`",
        f"- its model: {UNKNOWN}",
    ]
    assert sections["Weights"].strip() == f"- {UNKNOWN}"
    assert "not trained in this run" in sections["Training"] and "predict" not in sections["How to use"]


@pytest.mark.parametrize("kind", ["official", "evaluated"])
def test_weights_from_a_file_were_not_trained_here(make, kind):
    file = {"tag": "a-0011", "name": "a.pth", "sha256": "00" * 32, "split": None, "layout": "CellViT"}
    remarks = ["Tissues: [a](javascript:x) <b>*n*</b>."]
    front, sections = parts(card(finished(make(kind=kind, recipe={}, file=file | {"remarks": remarks}))))
    assert front["library_name"] == "pytorch"
    assert "`a.pth`" in sections["Weights"] and f"licence of the file: {UNKNOWN}" in sections["Weights"]
    assert r"\[a\](javascript:x) \<b\>\*n\*\</b\>" in sections["Weights"]
    assert "not trained in this run" in sections["Training"] and "Scale" not in sections["What may not be concluded"]
    assert "test images may be among it" in sections["What may not be concluded"]


def test_a_method_without_training(make):
    text = card(finished(make("classical@small", recipe={})))
    front, sections = parts(text)
    assert "nothing to train" in sections["Training"] and "none that is filled" in sections["Weights"]
    assert "Trained here" not in text and "Scale" not in sections["What may not be concluded"]
    assert "licence of these" not in sections["Weights"] and "library_name" not in front


def test_no_name_is_live(make):
    hostile = "`</script><b>x</b>`\n# title\x1b[31m ``| a |"
    folder = make(classes=[hostile, "b"], backbone={"name": hostile, "weights": hostile})
    text = card(finished(folder))
    front, sections = parts(text)
    assert list(sections) == SECTIONS and "\x1b" not in text and "\n# title" not in text
    for line in text.splitlines():
        spans = re.sub(r"(?<!`)(`+)(?!`)(.*?[^`])\1(?!`)", "", line)
        assert "<b>" not in spans and "</script>" not in spans
    assert front["datasets"] == ["synthetic"]
    assert unescaped(_plain("a_b <i> \\ *c*")) == "a_b <i> \\ *c*", "the page shows the text as it is"


@pytest.mark.parametrize("run", SHOWN, ids=lambda path: path.parent.name)
def test_cards_of_kept_runs(run, capsys):
    assert main(["card", str(run)]) == 0
    front, sections = parts(capsys.readouterr().out)
    assert front["model-index"][0]["name"] == run.parent.name and list(sections) == SECTIONS


def test_the_card_is_listed_verified_kept_out_and_made_again(make, tmp_path, capsys):
    source = finished(make())
    folder = RunFolder(tmp_path / "new" / source.folder.relative_to(tmp_path / "results"))
    folder.path.mkdir(parents=True)
    folder.finish(
        config=source.config,
        records=source.records(),
        predictions=[],
        provenance=source.provenance | {"started": "2026-01-01", "finished": "2026-01-02"},
        cost=source.cost | {"gflops": np.float64("nan")},
        metrics=source.metrics,
    )
    stored = folder.card.read_text()
    assert card(finished(folder.path)) == stored and "2026" not in stored
    assert main(["card", str(folder.path)]) == 0 and capsys.readouterr().out == stored
    listed = json.loads(folder.provenance.read_text())[manifest.FILES]["card.md"]
    assert listed["kind"] == "removable" and "card.md" not in json.loads(folder.metrics.read_text())[manifest.FILES]
    assert verify(folder).name == "whole"
    ((_, size, _, _),) = keep([finished(folder.path)], tmp_path / "kept")
    kept = tmp_path / "kept" / folder.path.relative_to(tmp_path / "new")
    assert not (kept / "card.md").exists() and size < 150_000
    ((_, what),) = adopt([tmp_path / "kept"], tmp_path / "adopted")
    adopted = RunFolder(tmp_path / "adopted" / folder.path.relative_to(tmp_path / "new"))
    assert what == "adopted" and verify(adopted).name == "whole"
    text = adopted.card.read_text()
    assert text == card(finished(adopted.path))
    assert text.replace(f"- adopted from: `{kept}`\n", "") == stored
    folder.card.write_text(stored.replace("bPQ", "xPQ"))
    assert verify(folder).name == "damaged" and "card.md" in verify(folder).why
    folder.card.unlink()
    assert verify(folder) == ("whole", "card.md removed")


def test_a_folder_without_a_finished_run_is_refused(tmp_path, capsys):
    assert main(["card", str(tmp_path)]) == 2
    assert "expected the folder of a finished run" in capsys.readouterr().err
    assert command.EXAMPLE.startswith("results/")

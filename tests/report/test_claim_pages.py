"""`reference --only-claim`: the drawn and the real images, each with a section and a folder of its own."""

import json

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.report import claim_answers
from benchmark.results.collect import runs
from benchmark.results.kept import keep
from benchmark.runtime.errors import InputError
from tests.support.report_runs import CLASSES, make_run, read_csv

ARMS = {"cellvta": 0.002, "decoder_only": 0.008, "full_finetune": 0.001}
REAL, DRAWN = "consep+monuseg", "synthetic@patches=168"
SOURCES, TYPED = 8, 6
MARKED = "before\n<!-- claim -->\nof earlier runs\n<!-- /claim -->\nafter\n"


def records() -> Records:
    """Eight images of as many sources, six of them with types; all nuclei are found, half a pixel's width aside."""
    matches, meta = [], []
    for image in range(SOURCES):
        true, pred = np.zeros((2, 128, 128), np.int32)
        for n in range(9):
            side, y, x = (28 if n % 2 else 10), 4 + 40 * (n // 3), 4 + 40 * (n % 3)
            true[y : y + side, x : x + side] = n + 1
            pred[y : y + side, x + image % 2 : x + side] = n + 1
        types = 1 + np.arange(9) % 2
        matches.append(match(true, types, pred, types, mpp=0.25))
        meta.append({"image": image, "image_id": str(image), "source": f"s{image}", "typed": image < TYPED})
    return Records.collect(matches, meta)


def grid(folder, stored, dataset, seeds, leave=()) -> None:
    means = PROTOCOLS["cellvit"].summary(Records.load(stored), CLASSES, [])
    means = {key: means[key] for key in ("bPQ", "mPQ")}  # intervals are of these means alone
    for arm, rate in ARMS.items():
        for split in (1, 2, 3):
            for seed in seeds:
                if (arm, split, seed) not in leave:
                    words = {"recipe.optimiser.lr": rate}
                    recipe = {"epochs": 64, "samples": 192, "batch": 8, "optimiser": {"lr": rate}}
                    name = f"{arm}@mini,recipe.optimiser.lr={rate}"
                    more = {"spec": f"{arm}@mini", "settings": words, "recipe": recipe, "dataset": dataset}
                    run = make_run(folder, stored, name, split, seed, **more)
                    metrics = json.loads((run / "metrics.json").read_text())
                    metrics["protocols"]["cellvit"] |= means
                    counts = {"val_bPQ": 0.5, "n_images": SOURCES, "n_untyped": SOURCES - TYPED}
                    (run / "metrics.json").write_text(json.dumps(metrics | counts))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    records().save(folder / "records")
    return folder / "records"


def renewed(tmp_path, stored, leave=()) -> tuple[str, str]:
    """(README, page of the answers) after `reference --only-claim`."""
    for name, dataset, seeds in (("claim", DRAWN, (0, 1, 2)), ("real", REAL, (0, 1))):
        grid(tmp_path / name, stored, dataset, seeds, leave if name == "real" else ())
        list(keep(runs(tmp_path / name), tmp_path / "reference" / name / "runs"))
    for name in ("README.md", "claim.md"):
        (tmp_path / name).write_text(MARKED)
    words = {"results": "none", "out": "reference/embedded", "readme": "README.md", "ledger": "ledger.csv"}
    words |= {"answers": "claim.md", "representations": "representations.md"}
    flat = [word for name, value in words.items() for word in (f"--{name}", str(tmp_path / value))]
    assert main(["reference", "--only-claim", *flat]) == 0
    return (tmp_path / "README.md").read_text(), (tmp_path / "claim.md").read_text()


@pytest.fixture(scope="module")
def pages(tmp_path_factory, stored):
    folder = tmp_path_factory.mktemp("pages")
    return folder, *renewed(folder, stored)


def section(page: str, heading: str) -> str:
    return page.split(heading)[1].split("\n### ")[0]


def test_each_has_its_section_and_the_readme_has_the_drawn_one(pages):
    _, readme, page = pages
    assert page.index("### Drawn images") < page.index("### Real images: crops of CoNSeP and MoNuSeg, not PanNuke")
    assert REAL not in readme and f"`{DRAWN}`" in readme and "before\n" in readme and "of earlier" not in readme
    drawn, real = section(page, "### Drawn images"), section(page, "### Real images")
    assert "27 of 27 trainings" in drawn and "18 of 18 trainings" in real
    assert "All 27 trainings have run" in readme and "All 18 trainings have run" in real
    assert "chosen on drawn images" in real and "chosen on drawn images" not in drawn
    assert "Validation bPQ of each arm" not in real and "against the length" not in real


def test_the_real_images_are_counted_where_intervals_stand(pages):
    folder, _, page = pages
    real = section(page, "### Real images")
    assert f"splits 1, 2, 3 have the same {SOURCES} test images of {SOURCES} source images" in real
    assert f"Intervals of the arms: over source images, bPQ {SOURCES}, mPQ {TYPED}." in real
    assert f"Split 1: {SOURCES - TYPED} of {SOURCES} test images are untyped" in real
    whole = [line for line in read_csv(folder / "reference/real/claim.csv") if line["pairs"]]
    counted = {line["asked"]: line["clusters"] for line in whole}
    assert (counted["bPQ"], counted["mPQ"]) == (str(SOURCES), str(TYPED))
    assert {(line["pairs"], line["verdict"]) for line in whole if line["asked"] == "bPQ"} == {("6", "no difference")}


def test_nothing_calls_the_real_images_pannuke_or_shows_a_pixel(pages):
    folder, _, page = pages
    real = section(page, "### Real images: crops of CoNSeP and MoNuSeg, not PanNuke")
    assert "pannuke" not in real.lower()
    for path in (folder / "reference/real").rglob("*.csv"):
        assert "pannuke" not in path.read_text().lower(), path
    assert {path.stem for path in (folder / "reference/real").glob("*.png")} <= {"gain", "pq_by_size"}


def test_a_missing_training_leaves_its_questions_without_a_verdict(tmp_path, stored):
    _, page = renewed(tmp_path, stored, leave={("decoder_only", 3, 1)})
    real = section(page, "### Real images")
    assert "17 of 18 trainings" in real and "There is no verdict before all trainings have run." in real
    (line,) = [line for line in real.splitlines() if line.startswith("| cellvta − decoder_only in bPQ")]
    assert [cell.strip() for cell in line.split("|")][8] == "5/6" and line.rstrip(" |").endswith("–")
    (line,) = [line for line in real.splitlines() if line.startswith("| cellvta − full_finetune in bPQ")]
    assert [cell.strip() for cell in line.split("|")][8] == "6/6" and line.rstrip(" |").endswith("no difference")


def test_an_arm_that_was_not_run_at_all_is_missing_too(tmp_path, stored):
    every = {("full_finetune", split, seed) for split in (1, 2, 3) for seed in (0, 1)}
    real = section(renewed(tmp_path, stored, leave=every)[1], "### Real images")
    assert "12 of 18 trainings" in real and "There is no verdict before all trainings have run." in real


def test_gains_by_representation_come_from_the_claims_runs_and_those_beside_them(tmp_path, stored):
    for arm in ("cellvta", "decoder_only"):
        rate = ARMS[arm]
        recipe = {"epochs": 64, "samples": 192, "batch": 8, "optimiser": {"lr": rate}}
        words = {"spec": f"{arm}@mini,instances=stardist", "settings": {"recipe.optimiser.lr": rate}, "recipe": recipe}
        name = f"{arm}@mini,instances=stardist,recipe.optimiser.lr={rate}"
        make_run(tmp_path / "other", stored, name, 1, 0, dataset=DRAWN, **words)
    list(keep(runs(tmp_path / "other"), tmp_path / "reference/representations/runs"))
    marked = MARKED.replace("claim -->", "representations -->")
    (tmp_path / "representations.md").write_text(marked)
    renewed(tmp_path, stored)
    text = (tmp_path / "representations.md").read_text()
    assert "20 of 72 trainings (8 arms" in text and "before\n" in text and "of earlier" not in text
    gains = [
        [cell.strip() for cell in line.split("|")[1:]] for line in text.splitlines() if line.startswith("| stardist")
    ]
    assert {line[5] for line in gains if len(line) == 9} == {"1/9"}, "over the pair that both have"
    assert (tmp_path / "reference/representations/representations.png").is_file()
    lines = read_csv(tmp_path / "reference/representations/representations.csv")
    assert {line["representation"] for line in lines} == {"hv", "stardist"}
    assert len(read_csv(tmp_path / "reference/representations/runs.csv")) == 20


def test_a_joint_training_under_the_same_name_is_no_answer(tmp_path, stored):
    make_run(tmp_path / "r", stored, "cellvta@mini", dataset=REAL, sets=[{"name": "consep"}, {"name": "monuseg"}])
    list(keep(runs(tmp_path / "r"), tmp_path / "kept" / "runs"))
    with pytest.raises(InputError, match="several sets at once"):
        claim_answers.section(tmp_path / "kept", ["cellvta@mini"], [1], [0], "kept", whole=True)


def test_keep_names_the_data_sets_that_there_are(tmp_path, stored, capsys):
    make_run(tmp_path / "r", stored, "cellvta@mini", dataset=REAL)
    words = ["keep", "--results", str(tmp_path / "r"), "--out", str(tmp_path / "k"), "--dataset", "pannuke"]
    assert main(words) == 2
    assert f"they are of {REAL} (main, preset" in capsys.readouterr().err

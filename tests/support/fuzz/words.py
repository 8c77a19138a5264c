"""Command lines with a strange word."""

import random
from pathlib import Path

from tests.support import tiny_data


def words(rng: random.Random, root: Path) -> list[str]:
    """A command line with one strange word; none of them trains or downloads anything."""
    value = rng.choice(VALUES)
    key = rng.choice(KEYS)
    lines = (
        ["status", "--dataset", tiny_data.TINY, f"recipe.{key}={value}"],
        ["status", "--dataset", tiny_data.TINY, value],
        [
            "run",
            "--method",
            "cellvta",
            "--fold",
            "1",
            "--data-root",
            root,
            "--dataset",
            "pannuke",
            f"recipe.{key}={value}",
        ],
        ["ablation", "--data-root", root, "--dataset", "pannuke", f"recipe.{key}={value}"],
        ["evaluate", "--weights", root / "absent.pth", f"recipe.{key}={value}"],
        ["models", "--methods", rng.choice(("cellvta@", "cellvta@debug,points=", "hovernet@", "")) + value],
        ["models", "--preset", "debug", "--methods", "classical", "--classes", value],
        ["status", "--dataset", tiny_data.TINY, "--methods", rng.choice(("cellvta@debug,points=", "")) + value],
        ["status", "--dataset", tiny_data.TINY, "--methods", f"cellvta@debug,recipe.{key}={value}"],
        ["status", "--dataset", tiny_data.TINY, rng.choice(("--folds", "--seeds", "--preset", "--experiment")), value],
        ["status", "--dataset", tiny_data.TINY, "--backbone", value],
        ["status", "--dataset", rng.choice(("synthetic@", "synthetic@x=", "")) + value],
        [
            "table",
            "--results",
            root,
            rng.choice(("--protocol", "--dataset", "--experiment", "--format", "--results")),
            value,
        ],
        ["score", "--true", root / "a.npy", "--pred", root / "a.npy", rng.choice(SCORE), value],
        [
            "predict",
            "--method",
            "classical",
            "--images",
            root / "a.png",
            "--out",
            root / "out",
            rng.choice(PREDICT),
            value,
        ],
        [
            "contact-sheet",
            "--dataset",
            "pannuke",
            "--out",
            root / "s.png",
            rng.choice(("--fold", "--count", "--run")),
            value,
        ],
        ["import", "--pred", root / "a.npy", "--dataset", "conic", "--name", value],
        ["prepare", "--dataset", rng.choice(("pannuke", "conic", "folder", value)), "--data-root", value],
        ["prepare", "--dataset", rng.choice(SETS) + value, "--data-root", root],
        ["prepare", "--dataset", rng.choice(("consep", "lizard", "nucls")), "--data-root", root, "--classes", value],
        [
            "prepare",
            "--dataset",
            rng.choice(("parquet", "synthetic")),
            "--data-root",
            root,
            "--download",
            "--accept",
            value,
        ],
        [
            "transfer",
            "--method",
            "classical",
            "--train",
            value,
            "--test",
            "synthetic@patches=6",
            "--results",
            root / "none",
        ],
        [
            "transfer",
            "--method",
            "classical",
            "--train",
            "synthetic@patches=6",
            "--test",
            value,
            "--results",
            root / "none",
        ],
        [value, "--help"],
    )
    return [str(word) for word in rng.choice(lines)]


KEYS = (
    "epochs",
    "optimiser.lr",
    "optimiser.betas",
    "optimiser",
    "augment",
    "samples",
    "ema",
    "clip",
    "schedule.name",
    "lr",
    "",
)
KEYS += ("optimiser.lr.x", ".", "a.b.c.d", "pretrain", "sampling.gamma", "batch", "workers", "precision")
SETS = ("consep@patch=", "consep@classes=", "monusac@", "lizard@patch=128,", "parquet@mpp=0.25,name=", "parquet@mpp=")
SETS += ("parquet@mpp=0.25,types=",)
SCORE = ("--mpp", "--shape", "--types", "--protocol", "--missing", "--vertices", "--true", "--pred", "--out")
PREDICT = ("--mpp", "--window", "--margin", "--device", "--images", "--method", "--weights")
VALUES = (
    "",
    " ",
    "-1",
    "0",
    "1e999",
    "nan",
    "None",
    "true",
    "[]",
    "{}",
    "()",
    "{[]: 1}",
    "{1: {}}",
    "{{}}",
    "[[1]]",
    "(1,(2,))",
)
VALUES += (
    "9" * 5000,
    "1" * 400,
    "(" * 300,
    "[" * 150 + "]" * 150,
    "-" * 5000 + "1",
    "1+1j",
    "b'x'",
    "...",
    "x" * 70_000,
    "\0",
)
VALUES += (
    "a\0b",
    "é",
    "\ud800",
    "=",
    "=1",
    "a=b=c",
    ",",
    "@",
    "@,",
    "/",
    "..",
    "~",
    "*",
    "--",
    "'",
    '"',
    "\\",
    "1_000",
    "0x10",
)
VALUES += (
    "[{'name': 1}]",
    "[{'name': 'flip', 'p': 'x'}]",
    "[{'name': {}}]",
    "{'a': 1, 'a': 2}",
    "1,2",
    "$HOME",
    "%s",
    "{x}",
    "\n",
)

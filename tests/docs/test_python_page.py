"""docs/python.md: its examples run, and it names the whole public surface, which costs nothing to import."""

import re
import subprocess
import sys

import pytest

import benchmark
from benchmark.results.kept import adopt
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.paths import ROOT

TEXT = (ROOT / "docs/python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
RUNS = ROOT / "docs/reference/embedded/runs"
PUBLIC = ["build", "load_weights", "open_dataset", "predict", "metrics.evaluate", "ops.ms_deform_attn"]
PUBLIC += ["postproc.decode_hv", "results.load"]


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    from benchmark.training.checkpoint import save_weights

    list(adopt([RUNS], tmp_path / "results"))
    weights = tmp_path / "results/synthetic/cellvta@small/fold1-seed0/weights.safetensors"
    stored = benchmark.build("cellvta@small", classes=5, tissues=6)
    save_weights(weights, stored)
    RunFolder(weights.parent).list_files()  # the committed runs list the weights that they had
    monkeypatch.chdir(tmp_path)
    space = {}
    for code in EXAMPLES:
        exec(code, space)
    printed = capsys.readouterr().out
    assert "'tp': (1, 6, 250, 256), 'tissue': (1, 6)" in printed and "(250, 256)" in printed
    state = space["method"].state_dict()
    assert all(value.equal(state[name]) for name, value in stored.state_dict().items())
    assert "cellvta@small, 5 types, 6 tissues, of synthetic split 1" in printed
    assert "6 images of 6 tissues, 5 types" in printed and len(space["found"]) > 5
    assert space["scored"].summary["bPQ"] > 0.5 and "1 [3]" in printed and "(2, 300, 128)" in printed
    assert len(space["runs"]) == 6 and len(space["bpq"]) == 6 and set(space["small"]["dataset"]) == {"synthetic"}


def test_every_public_name_is_described_and_used():
    roots = {name.partition(".")[0] for name in PUBLIC}
    assert roots == set(benchmark.__all__) and roots <= set(dir(benchmark))
    listed = re.findall(r"^\| `benchmark\.([\w.]+)\(", TEXT, re.MULTILINE)
    assert listed == PUBLIC
    for name in PUBLIC:
        assert any(f"benchmark.{name}(" in code for code in EXAMPLES), name
        home = benchmark
        for part in name.split("."):
            home = getattr(home, part)
        assert callable(home) and home.__doc__


def test_what_is_not_there_is_an_attribute_error():
    for home in (benchmark, benchmark.metrics, benchmark.postproc, benchmark.results):
        with pytest.raises(AttributeError, match=f"module '{home.__name__}' has no attribute 'nothing'"):
            _ = home.nothing


def imported_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_import_alone_loads_nothing():
    loaded = imported_by("import benchmark; benchmark.__version__")
    assert not loaded & {"numpy", "pandas", "scipy", "torch"}
    assert {name for name in loaded if name.startswith("benchmark")} == {"benchmark"}


@pytest.mark.parametrize("name", ["metrics.evaluate", "postproc.decode_hv", "results.load"])
def test_what_needs_no_torch_loads_none(name):
    assert f"| `benchmark.{name}(" in TEXT
    assert "torch" not in imported_by(f"import benchmark; benchmark.{name}")

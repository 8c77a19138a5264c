"""`doctor` tells what runs here."""

import re

from benchmark.cli import main
from benchmark.methods import registry
from benchmark.ops import backends, default_backend


def test_doctor_names_every_backend_and_method(capsys, tmp_path):
    assert main(["doctor", "--device", "cpu", "--results", str(tmp_path / "r"), "--cache", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"{default_backend('cpu')} is used on cpu" in out
    for name, (works, why) in backends().items():
        assert f"{name}: works" in out if works else f"{name}: no: {why}" in out
    assert all(re.search(rf"^method +{name}: ", out, re.MULTILINE) for name in registry.method_names())
    first = [line[:10] for line in out.splitlines()]
    assert {"machine   ", "method    ", "          "} <= set(first), "texts begin in one column"
    assert "gated" in out and not (tmp_path / "r").exists()

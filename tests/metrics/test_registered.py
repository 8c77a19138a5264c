"""Protocols by name: the order of tables, the choice of a user, a file that adds one, and that metrics stand alone."""

import shutil
import subprocess
import sys

import pytest

from benchmark import metrics
from benchmark.metrics.protocols import PROTOCOLS, choose
from benchmark.metrics.protocols.base import register
from benchmark.report.build import build
from benchmark.report.select.protocols import protocols
from benchmark.report.write import write_tables
from benchmark.runtime.errors import InputError

MINE = '''
import numpy as np

from .base import register
from .cellvit import CellViT


@register
class Mine(CellViT):
    """CellViT's scores, doubled."""

    name, version, made_for = "mine", 1, "a test"

    def image_scores(self, records, n_classes):
        scores = super().image_scores(records, n_classes)
        return scores | {"bPQ": 2 * scores["bPQ"]}
'''


def test_the_order_of_tables():
    assert list(PROTOCOLS) == ["pannuke", "cellvit", "cellvta_conic", "conic", "hovernet", "clean"]


def test_one_name_or_all():
    assert choose("clean") == ["clean"] == choose("clean", single=True)
    assert choose("all") == list(PROTOCOLS)


def test_an_unknown_name_is_refused_with_those_known_and_the_nearest():
    known = r"known are pannuke, cellvit, .*, clean"
    with pytest.raises(ValueError, match=rf"unknown protocol 'pannuk'; {known} and all\. Did you mean 'pannuke'\?$"):
        choose("pannuk")
    with pytest.raises(ValueError, match=rf"unknown protocol 'xyz'; {known} and all\.$"):
        choose("xyz")
    with pytest.raises(ValueError, match=rf"unknown protocol 'all'; {known}\.$"):
        choose("all", single=True)


def test_tables_and_reports_refuse_it_as_bad_input(tmp_path):
    assert protocols("all") == list(PROTOCOLS)
    for call in (
        lambda: protocols("cellvt"),
        lambda: write_tables(tmp_path, tmp_path / "out", protocol="cellvt"),
        lambda: build(tmp_path, tmp_path / "out", tmp_path, protocol="cellvt"),
    ):
        with pytest.raises(InputError, match=r"unknown protocol 'cellvt'; .* Did you mean 'cellvit'\?"):
            call()
    assert not (tmp_path / "out").exists()


def test_two_protocols_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two protocols are called 'clean'"):
        register(type(PROTOCOLS["clean"]))
    assert len(PROTOCOLS) == 6


def test_a_file_adds_a_protocol_and_the_package_needs_nothing_else_of_ours(tmp_path):
    shutil.copytree(metrics.__path__[0], tmp_path / "copied", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "copied/protocols/a_file.py").write_text(MINE)
    code = """
import sys
import numpy as np
from copied.api import evaluate
from copied.protocols import choose
labels = np.zeros((9, 9), int)
labels[2:5, 2:5] = 1
of = {name: evaluate([labels], [labels], name, mpp=0.25).summary["bPQ"] for name in ("cellvit", "mine")}
print(choose("all")[1:4], of["mine"] == 2 * of["cellvit"] > 1.9, any(m.startswith("benchmark") for m in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "['cellvit', 'mine', 'cellvta_conic'] True False", done.stderr

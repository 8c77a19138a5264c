"""How threads wait: set by the commands before torch is loaded, never by the package, never over the user."""

import json
import os
import re
import subprocess
import sys

import pytest

from benchmark.runtime import threads

LOOK = "import json, os, sys; print(json.dumps([os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules]))"


def _in_a_new_process(code: str, **variables) -> list:
    environment = {name: value for name, value in os.environ.items() if name not in threads.CHOICES} | variables
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="the runtime of other systems is another")
def test_commands_set_it_before_torch_is_loaded():
    command = "import contextlib\nfrom benchmark.cli import main\n"
    command += f"with contextlib.suppress(SystemExit): main(['--version'])\n{LOOK}"
    assert _in_a_new_process(command) == [str(threads.SPINS), False]


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "ACTIVE")])
def test_what_the_user_set_stays(name, value):
    code = f"from benchmark.runtime.threads import wait_gently; wait_gently(); {LOOK}"
    assert _in_a_new_process(code, **{name: value})[0] == {"GOMP_SPINCOUNT": "7"}.get(name)


def test_importing_the_package_sets_nothing():
    assert _in_a_new_process(f"import benchmark, benchmark.cli, benchmark.runtime.threads; {LOOK}")[0] is None


def test_other_systems_are_left_alone(monkeypatch):
    for name in threads.CHOICES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    threads.wait_gently()
    assert not any(name in os.environ for name in threads.CHOICES)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_reaches_the_runtime_whose_threads_the_operator_takes():
    """The operator's kernel runs on the threads of the runtime that torch has, and that one says what it has read."""
    code = """
import sys
from benchmark.runtime.threads import wait_gently
wait_gently()
import torch
from benchmark.ops.cpu import build
address = build.team().value or 0
for line in open("/proc/self/maps"):
    span, *_, name = line.split()
    low, high = (int(end, 16) for end in span.split("-"))
    if low <= address < high:
        print(name)
"""
    environment = {name: value for name, value in os.environ.items() if name not in threads.CHOICES}
    environment["OMP_DISPLAY_ENV"] = "VERBOSE"  # each runtime that is loaded prints its settings
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "libgomp" in done.stdout, done.stderr
    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr) == [str(threads.SPINS)], "one runtime, and ours"

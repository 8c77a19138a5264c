"""No module needs what macOS or Windows lacks to be imported; device mps is refused where there is none."""

import subprocess
import sys

import pytest
import torch

from benchmark.runtime import memory
from benchmark.runtime.distributed import resolve
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import PACKAGE, ROOT

# modules and functions that Windows has none of; macOS has no sched_getaffinity and no prctl either
MODULES = ["resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog"]
OF_OS = [
    "fork",
    "forkpty",
    "getuid",
    "geteuid",
    "getgid",
    "getpgid",
    "killpg",
    "setsid",
    "sched_getaffinity",
    "sysconf",
    "uname",
]
OF_OS += ["register_at_fork", "getloadavg", "nice", "mkfifo", "chown", "wait3", "posix_fallocate", "statvfs"]
OF_SIGNAL = ["SIGKILL", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGSTOP", "SIGCONT", "alarm"]

CODE = f"""
import importlib, pkgutil, sys
sys.path.insert(0, {str(ROOT)!r})
# other people's packages look at the system when they are imported: they are, before it changes
import filelock, matplotlib.pyplot, mmengine.config, mmengine.registry, numpy, pandas, PIL.Image, pyarrow.parquet
import rich.console, safetensors.torch, scipy.ndimage, skimage.measure, tifffile, timm, torch, torchvision
import asyncio, concurrent.futures.process, ctypes, multiprocessing, os, shutil, signal, socket, subprocess, tempfile
import torch.distributed.run, torch.utils.data, torch.utils.flop_counter
absent = set()
for name in ("argcomplete", "imagecodecs", "mlflow", "submitit", "tensorboard", "wandb"):  # packages of extras
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        absent.add(error.name)
sys.platform = "win32"
for name in {MODULES}:
    sys.modules[name] = None  # whoever imports it is told that there is no such module
for home, names in ((os, {OF_OS}), (signal, {OF_SIGNAL})):
    for name in names:
        if hasattr(home, name):
            delattr(home, name)
class NoLibrary(ctypes.CDLL):
    def __init__(self, name, *more, **options):
        if name is None:
            raise TypeError("Windows loads no library without a name")
        super().__init__(name, *more, **options)
ctypes.CDLL = NoLibrary
import benchmark
failures = []
for module in pkgutil.walk_packages(benchmark.__path__, "benchmark.", onerror=failures.append):
    if module.name != "benchmark.__main__":
        try:
            importlib.import_module(module.name)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name in absent:
                continue  # not for the system
            failures.append(f"{{module.name}}: {{type(error).__name__}}: {{error}}")
print(sum(name.startswith("benchmark") for name in sys.modules), "modules")
sys.exit("\\n".join(failures) or 0)
"""


def test_every_module_is_imported_where_posix_is_missing():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, timeout=500)
    assert done.returncode == 0, done.stderr
    modules = [p for p in PACKAGE.rglob("*.py") if p.name != "__main__.py"]
    assert int(done.stdout.split()[0]) >= len(modules) - 2 > 200, "all but those of trackers that are not installed"


def test_memory_that_the_system_does_not_tell(monkeypatch, tmp_path):
    assert memory.peak_resident() > 2**20
    monkeypatch.setattr(memory, "resource", None)
    monkeypatch.setattr(memory, "Path", lambda name: tmp_path / "no such file")
    assert memory.peak_resident() is None


def test_mps_is_one_sentence_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match="sees no GPU of Apple here; expected auto, cpu, cuda"):
        resolve("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve("mps") == "mps"

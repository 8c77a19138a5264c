"""Which devices of this machine take cells, and how many threads each of them has."""

import os
import re

import torch

from benchmark.runtime.distributed import resolve
from benchmark.runtime.errors import InputError, short


def slots(text: str | None, device: str = "auto") -> list[str]:
    """The device of each cell that may run at once.

    Args:
        text: "auto": every GPU, or the processor where there is none; else devices with commas or blanks between them,
            such as "cuda:0,cuda:1". "cpu:2" stands for two cells at once on the processor. None: `device` alone, and
            where that is "auto" as for "auto".
        device: the choice for a cell.

    Raises:
        InputError: both are given, a device that is not here, or a word that names none.
    """
    if text is None:
        text = device
    elif device != "auto":
        raise InputError(f"DEVICES is '{short(text)}' and DEVICE '{short(device)}'; name the devices in DEVICES alone.")
    if text == "auto":
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return [f"cuda:{i}" for i in range(gpus)] or ["cpu"]
    words = re.split(r"[,\s]+", text.strip())
    chosen: list[str] = []
    for word in words:
        cells = re.fullmatch(r"cpu:([1-9]\d{0,3})", word)
        if word == "auto":
            raise InputError(f"DEVICES is '{short(text)}'; auto stands for all devices, so that none stands beside it.")
        if not cells and not re.fullmatch(r"cpu|cuda(:\d+)?|mps", word):
            raise InputError(
                f"DEVICES is '{short(text)}': '{short(word)}' is no device; expected auto, or devices such as "
                "'cuda:0,cuda:1', where cpu:2 stands for two cells at once on the processor (at most 9999)."
            )
        chosen += ["cpu"] * int(cells[1]) if cells else [resolve(word, "DEVICES")]
    return chosen


def share_threads(cells: int) -> None:
    """Have every process that starts from now on take its share of the threads of this one, where several cells run at
    once and the user set no number."""
    if cells > 1 and "OMP_NUM_THREADS" not in os.environ:
        share = str(max(1, torch.get_num_threads() // cells))
        os.environ["OMP_NUM_THREADS"] = share
        os.environ.setdefault("MKL_NUM_THREADS", share)


def threads_set() -> int | None:
    """The threads that OMP_NUM_THREADS gives each process; None where it says nothing."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # further ones are of nested regions
    return int(first) if first.isdecimal() and int(first) else None

"""Whether the result of a damaged input that was accepted is a right one."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tests.support.ending import Ending, ending
from tests.support.fuzz.again import Unchecked
from tests.support.fuzz.subject import Subject

LIMIT = 10  # seconds for the whole file that another reader wrote


def result(subject: Subject, end: Ending) -> str:
    """The result of a call as text: what it printed, returned and wrote."""
    return "\n".join([end.out, _digest(end.value), *_files(subject.written)])


def judged(subject: Subject, damaged: bytes, end: Ending, right: str) -> tuple[str, str]:
    """("right", "wrong" or "unchecked", why it is wrong) of a damaged file that was accepted.

    Args:
        end: of reading it. right: the result of the undamaged file.
    """
    of_damaged = result(subject, end)
    if of_damaged == right:
        return "right", ""
    if subject.again is None:
        named = subject.path.name in f"{end.out}\n{end.err}"
        if named and not _numbers(end.out) - _numbers(right):
            return "right", ""
        return "wrong", f"changed and {'named' if named else 'not named'}: {end.out[-1500:]}"
    try:
        written_anew = subject.again(damaged)
    except Unchecked:
        return "unchecked", ""
    except Exception as error:
        return "wrong", f"another reader refuses it: {type(error).__name__}: {error}"
    subject.path.write_bytes(written_anew)
    other = ending(subject.read, LIMIT)
    if other.kind == "results" and result(subject, other) == of_damaged:
        return "right", ""
    return "wrong", f"another reader has other values, of which ours says: {other.kind} {other.err[-500:]}"


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+", text))


def _files(written: Path | None) -> list[str]:
    """What a command wrote: of prepared data the hash of their content, of anything else the bytes."""
    if written is None or not written.exists():
        return []
    prepared = sorted(written.glob("*/meta.json"))
    if prepared:
        return [json.loads(path.read_text())["content"] for path in prepared]
    files = sorted(written.rglob("*")) if written.is_dir() else [written]
    return [f"{p.name} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files if p.is_file()]


def _digest(value) -> str:
    """The value of a reader in few characters; equal for equal values."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype.kind} {value.shape} {hashlib.sha256(_plain(value)).hexdigest()}"
    if isinstance(value, torch.Tensor):
        whole = value.detach().contiguous().cpu()
        return f"{whole.dtype} {tuple(whole.shape)} {hashlib.sha256(whole.numpy().tobytes()).hexdigest()}"
    if isinstance(value, pd.DataFrame):
        return hashlib.sha256(value.to_csv().encode()).hexdigest()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_digest(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_digest, value)) + "]"
    if dataclasses.is_dataclass(value):
        return _digest({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    return repr(value)


def _plain(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, np.int64 if values.dtype.kind in "iub" else values.dtype).tobytes()

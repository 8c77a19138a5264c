"""Identities of results: the key of one, and the entries in which two differ."""

import hashlib
import json


def key(parts: dict) -> str:
    """The key of an identity: 16 hex digits of a SHA-256 over its canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=list).encode()).hexdigest()[:16]


def differing(old: dict, new: dict, path: str = "") -> list[str]:
    """Dotted names of the entries in which two nested dicts differ, with both values."""
    out = []
    for k in sorted(set(old) | set(new)):
        a, b = old.get(k), new.get(k)
        if isinstance(a, dict) and isinstance(b, dict):
            out += differing(a, b, f"{path}{k}.")
        elif type(a) is type(b) in (str, int, float, bool, type(None)) and a == b:
            continue  # what most entries are, without writing them as JSON
        elif json.dumps(a, default=list) != json.dumps(b, default=list):
            out.append(f"{path}{k}: {a} -> {b}")
    return out

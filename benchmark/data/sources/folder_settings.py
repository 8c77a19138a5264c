"""dataset.toml of a `folder` dataset, checked. Its keys are described in `benchmark.data.sources.folder`."""

import json
from pathlib import Path

from benchmark.data.files import text
from benchmark.data.files.class_names import distinct
from benchmark.data.files.names import normal
from benchmark.data.source import TAKEN, is_own_name
from benchmark.runtime.errors import InputError, near_miss, short

FILES = {"images": "images", "labels": "labels", "types": "types", "table": "images.csv"}
_KEYS = ("classes", "mpp", "name", "tissue", "patch", "folds", "files")


def read(path: Path) -> dict:
    """The checked content of dataset.toml, defaults filled in."""
    if not path.is_file():
        raise InputError(
            f"'{path}' is missing: expected a file such as classes = [\"tumour\"] and mpp = 0.25; write it."
        )
    content = text.toml(path)
    files = content.get("files", {})
    for keys, known in ((content, _KEYS), (files if isinstance(files, dict) else (), FILES)):
        for key in keys:
            if key not in known:
                hint = near_miss(key, known)
                raise InputError(f"{path}: expected the keys {', '.join(known)}, found '{key}'; correct it.{hint}")
    settings = {"name": "folder", "tissue": "", "patch": 256, "folds": 0, "files": {}} | content

    def need(key: str, fits: bool, expected: str) -> None:
        if not fits:
            value = short(json.dumps(settings[key], default=str)) if key in settings else "nothing"
            raise InputError(f"{path}: expected {key} to be {expected}, found {value}; correct it.")

    classes, mpp = settings.get("classes"), settings.get("mpp")
    strings = isinstance(classes, list) and all(isinstance(c, str) and normal(c) for c in classes)
    need("classes", strings and distinct(classes) and len(classes) < 256, "a list of distinct names")
    need("mpp", type(mpp) in (int, float) and 0 < mpp < 100, "micrometres per pixel such as 0.25")
    name = settings["name"]
    need(
        "name",
        name == "folder" or is_own_name(name),
        f"a plain word other than {', '.join(name for name in TAKEN if name != 'folder')}",
    )
    need("tissue", isinstance(settings["tissue"], str), "a name")
    patch, folds = settings["patch"], settings["folds"]
    need(
        "patch",
        type(patch) is int and 16 <= patch <= 8192 and patch % 16 == 0,
        "a multiple of 16 from 16 to 8192",
    )
    need("folds", type(folds) is int and (folds == 0 or "folds" not in content or folds >= 3), "at least 3")
    need(
        "files",
        isinstance(files, dict) and all(isinstance(v, str) for v in files.values()),
        "a table of paths",
    )
    return settings | {"classes": list(map(normal, settings["classes"]))}


def below(root: Path, path: str) -> Path:
    """The file or folder that dataset.toml names, by / or, as on Windows, by \\."""
    return root / path if (root / path).exists() else root / path.replace("\\", "/")

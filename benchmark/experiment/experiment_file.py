"""The file of an experiment, Python or YAML: found by name or path, and read with the files that it builds on."""

from __future__ import annotations

import ast
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.files import text
from benchmark.runtime.errors import InputError, near_miss, short
from benchmark.runtime.paths import EXPERIMENTS

if TYPE_CHECKING:
    from mmengine.config import Config

VALUES = 100_000  # more than any experiment has, with aliases written out
FORMS = (".py", ".yaml", ".yml")


def find(name: str, folder: Path, but: Path | None = None) -> Path:
    """The file that a name stands for.

    Args:
        name: of a file under `experiments/` ("main"), or a path ("my/grid.yaml") relative to `folder`, else to
            `experiments/`.
        but: a file that the name does not stand for: the one that it stands in.

    Raises:
        InputError: there is none.
    """
    path = Path(name).expanduser()
    is_path = path.suffix.lower() in FORMS or path.name != name
    files = (
        [path] if path.suffix.lower() in FORMS else [path.with_name(path.name + form) for form in FORMS if path.name]
    )
    places = [folder / file for file in files if is_path] + [EXPERIMENTS / file for file in files]
    for place in places:
        if place.is_file() and not (but and place.samefile(but)):
            return place
    known = sorted(p.stem for p in EXPERIMENTS.glob("*.py"))
    raise InputError(
        f"No experiment '{name}': {places[0] if places else name} is no file; known are {', '.join(known)}, and files "
        f"that end in {', '.join(FORMS)}.{near_miss(name, known)}"
    )


def read(path: Path) -> Config:
    """The values of a file, over those of the files that its `_base_` names.

    Raises:
        InputError: a file cannot be read, or a name in `_base_` stands for none.
    """
    from mmengine.config import Config  # imports torch

    try:
        with tempfile.TemporaryDirectory() as folder:
            return Config.fromfile(str(_copy(path, Path(folder), ())))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (Exception, SystemExit) as error:  # a Python file can raise anything, and leave
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no experiment that can be read ({type(error).__name__}: {reason}).") from error


def _copy(path: Path, folder: Path, above: tuple[Path, ...]) -> str:
    """Path of a copy of a file in `folder`, whose `_base_` names copies too: mmengine knows no places but its own."""
    if path.resolve() in above:
        raise InputError(f"{path} builds on itself; take it out of _base_.")

    def copies(names) -> list[str]:
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise InputError(f"_base_ of {path} is {names!r}; expected names of experiments or paths of files.")
        below = (*above, path.resolve())
        return [_copy(find(name, path.resolve().parent, but=path), folder, below) for name in names]

    if path.suffix.lower() == ".py":
        content, suffix = _python(path, copies), ".py"
    else:
        content, suffix = _yaml(path, copies), ".json"
    copy = folder / f"{len(list(folder.iterdir()))}{suffix}"
    copy.write_text(content, encoding="utf-8")
    return str(copy)


def _python(path: Path, copies) -> str:
    """The code of a Python file with the copies of its bases in place of their names."""
    tree = ast.parse(text.read(path), str(path))
    for line in tree.body:
        if isinstance(line, ast.Assign) and [ast.unparse(target) for target in line.targets] == ["_base_"]:
            try:
                names = ast.literal_eval(line.value)
            except ValueError:
                names = ast.unparse(line.value), None  # computed: refused as what it is
            line.value = ast.parse(repr(copies(names)), mode="eval").body
    return ast.unparse(tree)


def _yaml(path: Path, copies) -> str:
    """The values of a YAML file as JSON, in the same way. Nothing in a YAML file is executed."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads 1e-3 as a number, as YAML 1.2 does."""

    number = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    loader = Loader(text.read(path))
    try:
        node = loader.get_single_node()
        _check_tree(node, {})
        values = None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise InputError(f"expected keys with values, such as 'methods: [cellvta]', found {type(values).__name__}.")
    if "_base_" in values:
        values["_base_"] = copies(values["_base_"])
    return json.dumps(values)


def _check_tree(node, sizes: dict[int, int]) -> int:
    """Number of values in a YAML node with its aliases written out, as JSON has them.

    Args:
        sizes: id of each node that was looked at -> its number, 0 while it is looked at.

    Raises:
        InputError: a key twice, of which YAML takes the last; an alias within itself; more than VALUES values, which
            aliases of aliases make of a few hundred bytes.
    """
    if node is None:
        return 0
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise InputError(
                f"line {node.start_mark.line + 1}: an alias stands within what it stands for; write it out."
            )
        return sizes[id(node)]
    sizes[id(node)], total = 0, 1
    pairs = node.value if node.id == "mapping" else []
    keys: set[str] = set()
    for key in [key for key, _ in pairs if key.id == "scalar"]:
        if key.value in keys:
            raise InputError(f"line {key.start_mark.line + 1}: the key '{short(key.value)}' stands twice; keep one.")
        keys.add(key.value)
    children = [child for pair in pairs for child in pair] if pairs else node.value if node.id == "sequence" else []
    for child in children:
        total += _check_tree(child, sizes)
        if total > VALUES:
            raise InputError(
                f"expected at most {VALUES} values, found more, made by aliases of aliases; write them out."
            )
    sizes[id(node)] = total
    return total

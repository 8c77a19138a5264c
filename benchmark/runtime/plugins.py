"""Import of all modules of a package, which register themselves; words of names such as `cellvta@points=8`."""

import ast
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from benchmark.runtime.errors import InputError, near_miss, short

# package -> group of entry points by which other packages offer more of what its modules register
OFFERED = {"benchmark.methods": "nuclei_benchmark.methods"}
_IMPORTED: dict[str, BaseException | None] = {}


def import_all(package: str) -> None:
    """Import every module of a package, once; what a broken one raises is raised at each call."""
    if package not in _IMPORTED:
        _IMPORTED[package] = None
        try:
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                importlib.import_module(f"{package}.{module.name}")
        except Exception as error:
            _IMPORTED[package] = error
    if (error := _IMPORTED[package]) is not None:
        raise error  # each time: a later call must not miss the names of a file that is broken


@functools.cache  # looking through all packages takes longer than all that a look at a cell does
def offered(group: str) -> dict[str, list[EntryPoint]]:
    """Name -> entry points of a group, of all packages that are installed; nothing of theirs is imported.

    A name has several where packages offer different things under it, which `import_offered` refuses.
    """
    out: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        same = out.setdefault(point.name, [])
        if all(point.value != other.value for other in same):
            same.append(point)
    return out


def import_offered(group: str, registry, name: str, fault: Callable[[type], str | None] = lambda cls: None) -> None:
    """Import what another package offers as `name`, once, after which it must have registered it; nothing for others.

    What the module of the entry point, or another of the same package, has registered before is its own: a package may
    offer several names, and a script may import it first.

    Args:
        registry: an mmengine Registry.
        fault: why what is registered cannot be used, or None.

    Raises:
        InputError: two packages offer the name, the import fails, the name is taken, is not registered, or `fault` says
            why not; raised at each call.
    """
    if not (points := offered(group).get(name)):
        return
    point, *others = points
    if others:
        raise InputError(
            f"The packages '{_dist(point)}' and '{_dist(others[0])}' both offer '{name}' as one of {group}; "
            "uninstall one of them."
        )
    key = f"{group}:{name}={point.value}"
    if key not in _IMPORTED:
        _IMPORTED[key] = None  # before the import, in which the package may ask for its own name
        try:
            _load(point, registry, fault)
        except (Exception, SystemExit) as error:  # a module that is a script may end itself
            _IMPORTED[key] = error
        except BaseException:  # Ctrl-C: not imported, and no fault of the package
            del _IMPORTED[key]
            raise
    if (error := _IMPORTED[key]) is not None:
        raise InputError(
            f"The package '{_dist(point)}' offers '{name}' ({point.value}) as one of {group}, which cannot be used "
            f"({_reason(error)}); mend or uninstall that package."
        ) from error


def _load(point: EntryPoint, registry, fault: Callable[[type], str | None]) -> None:
    """Import an entry point's module. Raises InputError for a name that is taken or unregistered, or a fault of it."""
    before = registry.module_dict.get(point.name)
    if before is not None:
        owner = getattr(before, "__module__", None) or "?"
        if owner.partition(".")[0] != point.module.partition(".")[0]:
            raise InputError(f"the name is taken, by {owner}")
    point.load()
    if (registered := registry.module_dict.get(point.name)) is None:
        raise InputError(f"it registers no '{point.name}'")
    if why := fault(registered):
        raise InputError(why)


def _reason(error: BaseException) -> str:
    """What an error says, on one line, with its kind where the words alone do not say what failed."""
    text = short(" ".join(str(error).split()), 160)
    plain = isinstance(error, InputError | ImportError) and text
    return text if plain else f"{type(error).__name__}: {text}".removesuffix(": ")


def package_of(group: str, name: str) -> str | None:
    """The package that offers a name, with its version, such as "two-convolutions 0.1"; None where none does."""
    points = offered(group).get(name)
    return _dist(points[0], version=True) if points else None


def _dist(point: EntryPoint, version: bool = False) -> str:
    if point.dist is None:
        return "?"
    return f"{point.dist.name} {point.dist.version}" if version else point.dist.name


def declared(package: str) -> set[str] | None:
    """Names that the modules of a package register, read from their text: importing them may import torch.

    With those that other packages offer, where these can.

    None where a module registers in another form than `register_module(name="…")`: its names are not known then.
    """
    names = set()
    for folder in importlib.import_module(package).__path__:
        for path in Path(folder).glob("*.py"):
            code = path.read_text(encoding="utf-8")
            here = re.findall(r"""register_module\(name=["'](\w+)["']\)""", code)
            if len(here) != code.count("register_module"):
                return None
            names |= {*here}
    return names | offered(OFFERED[package]).keys() if package in OFFERED else names


def check_name(what: str, name: str, names: Iterable[str]) -> None:
    """Raises InputError, with a near-miss hint, for a name that is none of `names`."""
    if name not in names:
        known = sorted(names)
        raise InputError(f"Unknown {what} '{short(name)}'; known are {', '.join(known)}.{near_miss(name, known)}")


def name_of(text: str) -> str:
    """The method in `method@row,key=value,…`. Raises InputError when the text has another form."""
    if not re.fullmatch(r"[a-z0-9_]+(@[^@/\\\s]+)?", text):
        raise InputError(
            f"'{short(text)}' is not a method name; expected method@row,key=value such as 'cellvta@small,points=8'."
        )
    return text.partition("@")[0]


def value_of(text: str):
    """A Python literal, true, false or none in any case, else the text itself."""
    lowered = {"true": True, "false": False, "none": None}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # the last two: nested too deeply
        return text


def text_of(value) -> str:
    """A value as one writes it after `key=`, without spaces."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value).replace(" ", "")


def words_of(text: str) -> list[str]:
    """The words between the commas of a text; a comma within brackets, as in `betas=(0.9,0.95)`, parts nothing."""
    words, depth = [""], 0
    for letter in text:
        depth = max(0, depth + (letter in "([{") - (letter in ")]}"))
        if letter == "," and depth == 0:
            words.append("")
        else:
            words[-1] += letter
    return [word for word in words if word]

"""Methods by name: `method@row,key=value,…`, where `row` is a published variant or a preset of that method.

A method is registered by its file in `benchmark/methods`, or by a package that offers it by an entry point, imported on
first use; what follows the row overrides its arguments.
"""

import inspect
from dataclasses import dataclass, field

from mmengine.registry import Registry

from benchmark.methods.base import Method
from benchmark.representations.base import Representation
from benchmark.runtime.errors import InputError, near_miss, short
from benchmark.runtime.plugins import (
    OFFERED,
    check_name,
    import_all,
    import_offered,
    name_of,
    offered,
    text_of,
    value_of,
    words_of,
)
from benchmark.runtime.plugins import package_of as offered_by
from benchmark.runtime.scales import ARGUMENTS_OF

METHODS = Registry("method")
_GROUP = OFFERED["benchmark.methods"]


def method_names() -> list[str]:
    """Names of all registered methods, sorted, those of other packages too, which are all imported.

    Raises:
        InputError: a package offers a method that cannot be used.
    """
    for name in known_names():
        import_other(name)
    return sorted(METHODS.module_dict)


def known_names() -> list[str]:
    """Names of our methods and of those that other packages offer, sorted; none of theirs is imported."""
    import_all("benchmark.methods")
    return sorted({*METHODS.module_dict, *offered(_GROUP)})


def method_class(name: str) -> type[Method]:
    """The Method subclass called `name`. Of other packages the one that offers it is imported, and no other.

    Raises:
        InputError: no such name, with a near-miss hint; a package offers it, and it cannot be used.
    """
    import_all("benchmark.methods")
    if not is_ours(name):  # a package that offers a name of ours stops no result of ours; `models` refuses it
        import_other(name)
    if name not in METHODS.module_dict:  # else the sorted names, at each look at a cell, take longer than the look
        check_name("method", name, known_names())
    return METHODS.module_dict[name]


def import_other(name: str) -> None:
    """Import the method `name` of another package, where one offers it. Raises InputError when it cannot be used."""
    import_offered(_GROUP, METHODS, name, _fault)


def is_ours(name: str) -> bool:
    """Whether a method that is imported is one of `benchmark/methods`."""
    module = getattr(METHODS.module_dict.get(name), "__module__", None) or ""
    return module.startswith("benchmark.")


def package_of(name: str) -> str | None:
    """The package and version that a method comes from, such as "two-convolutions 0.1"; None for our own."""
    return None if is_ours(name) else offered_by(_GROUP, name)


def _fault(cls) -> str | None:
    """Why what a package registered cannot be used as a method, or None."""
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        return f"{short(str(getattr(cls, '__qualname__', cls)))} is no subclass of benchmark.methods.base.Method"
    if not isinstance(cls.presets, dict) or not all(isinstance(row, dict) for row in cls.presets.values()):
        return "its presets are no dict of row name -> dict of arguments"
    if not cls.presets:
        return "it has no presets, such as {'debug': {}, 'small': {}, 'paper': {}}"
    arguments = cls.arguments()
    for name, value in arguments.items():
        if value is inspect.Parameter.empty:
            return f"its argument '{name}' has no default"
    for row, values in cls.presets.items():
        for key in values:
            if key not in arguments:
                have = ", ".join(sorted(arguments)) or "none"
                return f"its preset '{row}' sets '{key}', which is none of its arguments ({have})"
    own = cls.representation_of.__func__ is not Method.representation_of.__func__  # type: ignore[attr-defined]
    if not own and not isinstance(getattr(cls, "representation", None), Representation):
        return "it has no representation, an instance of a Representation, and does not override representation_of"
    return None


@dataclass(frozen=True)
class Spec:
    """A parsed method name. `arguments` holds the row's arguments with the overrides applied."""

    name: str
    row: str
    overrides: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)

    def __str__(self) -> str:
        """Canonical name: row always present, overrides sorted, those equal to the row's own value omitted."""
        return f"{self.name}@{self.row}" + "".join(f",{k}={text_of(v)}" for k, v in sorted(self.overrides.items()))


def parse(text: str, preset: str | None = None) -> Spec:
    """Parse `method@row,key=value,…`; `preset` is the row when the text names none.

    Raises:
        InputError: unknown method, row or argument, each with a near-miss hint; an argument that is named twice.
    """
    name, rest = name_of(text), text.partition("@")[2]
    cls = method_class(name)
    words = words_of(rest)
    row = words.pop(0) if words and "=" not in words[0] else preset
    row = row or "small"
    rows = rows_of(cls)
    if row not in rows:
        hint = near_miss(row, rows)
        raise InputError(f"Method '{name}' has no preset or variant '{row}'; it has {', '.join(rows)}.{hint}")
    known = cls.arguments()
    base = known | rows[row]
    overrides, seen = {}, set()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"'{word}' in '{text}' has no value; write key=value after the first word.")
        if key in seen:
            raise InputError(f"'{short(text)}': expected {short(key)} once, found it twice; keep one.")
        seen.add(key)
        if key not in known:
            hint = near_miss(key, known)
            have = ", ".join(sorted(known)) or "none"
            raise InputError(f"Method '{name}' has no argument '{key}'; it has {have}.{hint}")
        if key in cls.fixed:
            raise InputError(f"'{word}' in '{text}': {key} is what defines {name} and cannot be changed.")
        value = value_of(value)
        if not _same_kind(value, base[key]):
            like, other = text_of(base[key]), short(repr(value))
            raise InputError(f"'{short(word)}' in '{short(text)}': expected a value like {like}, found {other}.")
        if value != base[key] or type(value) is not type(base[key]):
            overrides[key] = value
    if "instances" in overrides:  # refused now: a network is built only after its encoder's weights were made
        cls.representation_of(base | overrides)
    return Spec(name, row, overrides, base | overrides)


def rows_of(cls) -> dict[str, dict]:
    """The rows of a method with their arguments: its presets, and the scales that take the arguments of another."""
    shared = {scale: cls.presets[of] for scale, of in ARGUMENTS_OF.items() if of in cls.presets}
    return shared | cls.presets


def build(spec: str | Spec, classes: int, tissues: int, preset: str | None = None, **extra):
    """Build a method: `build("cellvta@debug", classes=5, tissues=19)`.

    Args:
        spec: name as in `parse`, or a parsed Spec.
        classes: nucleus types without background; 0 means no type branch.
        tissues: tissue classes; 0 means no tissue head.
        extra: arguments that do not belong to the identity, such as `weights` (a local file).
    """
    spec = parse(spec, preset) if isinstance(spec, str) else spec
    return method_class(spec.name).from_arguments(classes, tissues, **(spec.arguments | extra))


def identity_arguments(spec: Spec) -> dict:
    """The arguments that identify a result: all but those at the value that their method declares neutral.

    An argument that is added to a method declares in `Method.neutral` the value with which the method computes what
    it did before; results stored before then keep their identity.
    """
    neutral = method_class(spec.name).neutral
    return {name: value for name, value in spec.arguments.items() if name not in neutral or value != neutral[name]}


def stored_representation(config: dict) -> Representation:
    """How a stored run represents nuclei.

    Args:
        config: its config.json. An argument that it was stored without has the value that its method declares neutral.
    """
    cls = method_class(config["name"])
    return cls.representation_of(cls.neutral | (config.get("arguments") or {}))


def _same_kind(value, default) -> bool:
    """Whether a value may replace a default: None allows all, numbers take whole numbers, flags only flags."""
    if default is None or value is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))

"""The commands of `python -m benchmark`: one file each, with HELP, EXAMPLE, arguments(parser) and run(options).

Their heavy imports stand inside `run`, so that `--help` answers at once.
"""

import importlib
import pkgutil


def names() -> list[str]:
    """Names of all commands, sorted: those of the files here, `_` written `-`."""
    files = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.strip("_").replace("_", "-") for name in files if not name.startswith("_"))


def module(name: str):
    """The module of a command; a name that Python reserves (`import`) has a file with a trailing `_`."""
    own = name.replace("-", "_")
    files = {m.name for m in pkgutil.iter_modules(__path__)}
    return importlib.import_module(f"{__name__}.{own if own in files else own + '_'}")

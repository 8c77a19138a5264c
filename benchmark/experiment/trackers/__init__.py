"""Where training logs can be shown: one file per tool, each with a `Writer` and a HINT on how to look at its runs; a
file is imported when it is asked for.

`Writer(logdir, name, mark)` opens a run of the tool, `write(values, step)` stores an epoch's values, `close()` ends it.
name: of the run, its path below the folder of results. mark: text that stands for one training of it; a run that began
anew has another. A writer that is opened twice with the same mark goes on where the first one ended.
"""

import importlib
import sys
from types import ModuleType

from benchmark.runtime.errors import InputError

EXTRAS = {"tensorboard": "track", "wandb": "wandb", "mlflow": "mlflow"}  # tool -> extra that installs it


def tool(name: str) -> ModuleType:
    """The file of a tool. Raises InputError where its package is not installed."""
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        raise InputError(
            f"{name} cannot be imported ({error}); install the extra: "
            f"{sys.executable} -m pip install -e '.[{EXTRAS[name]}]'."
        ) from error

"""CellVTA and its rivals, trained and scored by one harness over one deformable-attention op.

The names of __all__ are the public surface, described in docs/python.md; everything else may move. Each is fetched when
it is first used, so that importing this package costs nothing and loads no torch.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["build", "load_weights", "metrics", "open_dataset", "ops", "postproc", "predict", "results"]

_FUNCTIONS = {  # public name -> (module, name there)
    "build": ("benchmark.methods.registry", "build"),
    "load_weights": ("benchmark.weights.fit", "load_official"),
    "open_dataset": ("benchmark.data.opening", "open_dataset"),
    "predict": ("benchmark.evaluation.own_images", "predict"),
}


def __getattr__(name: str):
    if name in _FUNCTIONS:
        module, own = _FUNCTIONS[name]
        return getattr(importlib.import_module(module), own)
    if name in __all__:
        return importlib.import_module(f"benchmark.{name}")
    raise AttributeError(f"module 'benchmark' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

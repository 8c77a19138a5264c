"""The law of imports: what each folder of the package may import of ours, besides itself.

A folder stands above all that it imports. A row for a file, such as `data.nuclei`, or for part of a wing is a law of
its own for that part. docs/architecture.md and the README's picture are compared with it.
"""

from benchmark.runtime.paths import ROOT

PACKAGE = ROOT / "benchmark"
WINGS = sorted(p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists())

SHORT = {
    "runtime": set(),
    "metrics": set(),
    "ops": set(),
    # data
    "data": {"runtime"},
    "data.nuclei": set(),
    "data.files": {"runtime"},
    "data.drawing": set(),
    "data.sources": {
        "runtime",
        "data.nuclei",
        "data.source",
        "data.registry",
        "data.facts",
        "data.files",
        "data.drawing",
    },
    "data.store": {"runtime", "data.nuclei", "data.source", "data.files"},
    # nuclei from maps and from files, blocks of networks
    "layers": {"runtime", "ops"},
    "postproc": {"data.nuclei"},
    "representations": {"runtime", "data.nuclei", "postproc"},
    "formats": {"runtime", "data.nuclei", "data.files"},
    # what runs leave, and what is told of it
    "results": {"runtime", "data.nuclei", "metrics"},
    "report": {"runtime", "metrics", "results"},
    "report.select": {"runtime", "metrics", "results"},
    "report.stats": {"metrics", "results", "report.select"},
    "report.render": {"runtime"},
    "report.tables": {"runtime", "metrics", "results", "report.select", "report.stats", "report.render"},
    "report.figures": {
        "runtime",
        "data.nuclei",
        "data.store.fold",
        "metrics",
        "results",
        "report.select",
        "report.stats",
        "report.render",
    },
    "report.page": {"runtime", "report.figures", "report.render", "report.tables"},
    "report.papers": {
        "runtime",
        "data.files",
        "metrics",
        "results",
        "report.select",
        "report.stats",
        "report.render",
        "report.tables",
        "report.write",
        "report.readme",
    },
    # methods, and what runs them
    "methods": {"runtime", "data.nuclei", "layers", "representations"},
    "evaluation": {
        "runtime",
        "data",
        "layers.image_ops",
        "postproc",
        "representations",
        "formats",
        "metrics",
        "results",
    },
    "training": {"runtime", "data", "layers", "methods.registry", "metrics", "results", "evaluation"},
    "training.augment": {"runtime", "data.nuclei"},
    "weights": {"runtime", "data", "layers", "methods.registry", "results"},
    "experiment": {
        "runtime",
        "data",
        "ops",
        "methods.registry",
        "metrics",
        "results",
        "evaluation",
        "training",
        "weights",
    },
    "commands": set(WINGS) - {"commands", "metrics", "postproc", "representations"},
    "cli": {"runtime", "commands"},
    "__main__": {"cli"},
}

MAY_IMPORT = {f"benchmark.{part}": {f"benchmark.{name}" for name in allowed} for part, allowed in SHORT.items()}


def wings_below(wing: str) -> set[str]:
    """The wings that a wing may import, parts of itself aside."""
    parts = [allowed for part, allowed in SHORT.items() if part.split(".")[0] == wing]
    return {name.split(".")[0] for allowed in parts for name in allowed} - {wing}

"""`doctor`: what this machine can run, and why not the rest."""

from benchmark.commands import _options as shared

HELP = "What this machine can run: versions, GPU, backends of the deformable-attention op, weights, folders."
EXAMPLE = "--device cuda"


def arguments(parser) -> None:
    shared.device(parser)
    shared.results(parser)
    shared.cache_and_weights(parser)


def run(options) -> int:
    import shutil

    import torch

    from benchmark.methods import registry
    from benchmark.ops import backends, default_backend
    from benchmark.results import provenance
    from benchmark.runtime import distributed, terminal
    from benchmark.runtime.control_signs import visible

    device = distributed.resolve(options.device)
    hardware, versions = provenance.hardware(device), provenance.versions()
    rows = [
        ("machine", ", ".join(f"{k} {v}" for k, v in hardware.items() if v is not None)),
        ("versions", ", ".join(f"{k} {v}" for k, v in versions.items() if v is not None)),
        ("device", f"{device}" + ("" if torch.cuda.is_available() else " (torch sees no CUDA device)")),
        ("op", f"{default_backend(device)} is used on {device}"),
    ]
    rows += [("", f"{name}: {'works' if works else f'no: {why}'}") for name, (works, why) in backends().items()]
    for name, folder in (("results", options.results), ("cache", options.cache)):
        existing = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
        free = shutil.disk_usage(existing).free / 2**30
        exists = "exists" if folder.exists() else "is made when needed"
        rows.append((name, f"{folder} ({exists}, {free:.0f} GiB free)"))
    rows += [line for name in registry.method_names() for line in _rows(name)]
    print(terminal.columns([[visible(text) for text in row] for row in rows], terminal.room()))
    return 0


def _rows(name: str) -> list[tuple[str, str]]:
    """Which rows of a method run without a file of weights, and what the others need."""
    from benchmark.methods import registry

    cls = registry.method_class(name)
    ready, blocked = [], {}
    for row in cls.presets:
        if row == "debug":
            continue
        works, why = cls.supports(registry.parse(f"{name}@{row}").arguments | {"weights": None})
        if works:
            ready.append(row)
        else:
            blocked.setdefault(why, []).append(row)
    lines = [("method", f"{name}: {', '.join(ready) or 'none'}")]
    return lines + [("", f"needs weights, {', '.join(rows)}: {why}") for why, rows in blocked.items()]

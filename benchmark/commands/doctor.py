"""`doctor`: what this machine can run, and why not the rest."""

from benchmark.commands import _options as shared

HELP = "What this machine can run: versions, GPU, backends of the deformable-attention op, weights, folders."
EXAMPLE = "--device cuda"


def arguments(parser) -> None:
    shared.device(parser)
    shared.results(parser)
    shared.reports(parser)
    shared.cache_and_weights(parser)


def run(options) -> int:
    import shutil

    import torch

    from benchmark.methods import registry
    from benchmark.ops import backends, default_backend
    from benchmark.results import provenance
    from benchmark.runtime import distributed, paths, terminal
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
    rows.append(("program", f"{paths.PACKAGE} ({'of a checkout' if paths.IN_CHECKOUT else 'installed'})"))
    rows += [("", f"experiments: {paths.EXPERIMENTS}"), ("", f"reference runs: {paths.REFERENCE}")]
    for name in ("results", "reports", "cache"):
        folder = getattr(options, name)
        chosen = f"--{name}" if folder is not getattr(paths, name.upper()) else paths.WHY[name]
        existing = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
        free = shutil.disk_usage(existing).free / 2**30
        exists = "exists" if folder.exists() else "is made when needed"
        rows.append((name, f"{folder} (by {chosen}; {exists}, {free:.0f} GiB free)"))
    rows += [line for name in registry.known_names() for line in _rows(name)]
    print(terminal.columns([[visible(text) for text in row] for row in rows], terminal.room()))
    return 0


def _rows(name: str) -> list[tuple[str, str]]:
    """Which rows of a method run without a file of weights, and what the others need."""
    from benchmark.methods import registry
    from benchmark.runtime.errors import InputError

    refused = []
    try:
        registry.import_other(name)
    except InputError as error:  # of another package, which stops none of the other rows
        if not registry.is_ours(name):
            return [("method", f"{name}: none: {error}")]
        refused = [("", str(error))]
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
    lines += [("", f"needs weights, {', '.join(rows)}: {why}") for why, rows in blocked.items()]
    return lines + refused

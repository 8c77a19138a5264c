"""`doctor`: what this machine can run, and why not the rest."""

from pathlib import Path

from benchmark.runtime.paths import CACHE, RESULTS

HELP = "What this machine can run: versions, GPU, backends of the deformable-attention op, weights, folders."
EXAMPLE = "--device cuda"


def arguments(parser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<i> (default auto)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where prepared data and pretrained weights lie")


def run(options) -> int:
    import shutil

    import torch

    from benchmark.methods import registry
    from benchmark.ops import backends, default_backend
    from benchmark.results import provenance
    from benchmark.runtime import distributed

    device = distributed.resolve(options.device)
    hardware, versions = provenance.hardware(device), provenance.versions()
    print("machine    " + ", ".join(f"{k} {v}" for k, v in hardware.items() if v is not None))
    print("versions   " + ", ".join(f"{k} {v}" for k, v in versions.items() if v is not None))
    print(f"device     {device}" + ("" if torch.cuda.is_available() else " (torch sees no CUDA device)"))
    print(f"op         {default_backend(device)} is used on {device}")
    for name, (works, why) in backends().items():
        print(f"           {name}: {'works' if works else f'no: {why}'}")
    for what, folder in (("results", options.results), ("cache", options.cache)):
        known = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
        free = shutil.disk_usage(known).free / 2**30
        print(f"{what:<10} {folder} ({'exists' if folder.exists() else 'is made when needed'}, {free:.0f} GiB free)")
    for name in registry.method_names():
        cls = registry.method_class(name)
        rows = [row for row in cls.presets if row not in ("debug",)]
        checked = {row: cls.supports(registry.parse(f"{name}@{row}").arguments | {"weights": None}) for row in rows}
        ready = [row for row, (works, _) in checked.items() if works]
        print(f"method     {name}: {', '.join(ready) or 'none'}")
        for why in dict.fromkeys(why for works, why in checked.values() if not works):
            blocked = [row for row, (works, reason) in checked.items() if not works and reason == why]
            print(f"           needs weights, {', '.join(blocked)}: {why}")
    return 0

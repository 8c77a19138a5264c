"""Weights for the small ViTs: a pretext task on synthetic patches outside every fold, run once and cached.

Small presets compare methods that build on a pretrained backbone, and there is no pathology foundation model
of a laptop's size. So the backbone learns once to predict, from each 16×16 token, what lies where inside it: how
much of each of its 4×4 cells is nucleus, how much is the rim of one, which of them hold a centre, and which
types its quarters hold. Each quarter of the blocks answers through its own linear probe, since decoders read
them all. The probes are thrown away. Time and learning curve are kept beside the weights.
"""

import hashlib
import itertools
import json
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn

from benchmark.data.sources import synthetic
from benchmark.layers import vit
from benchmark.results import manifest
from benchmark.runtime import memory, workers
from benchmark.runtime.errors import InputError, near_miss
from benchmark.runtime.files import atomic, read_json, sweep, write_json
from benchmark.runtime.progress import Progress
from benchmark.runtime.timm_alone import timm
from benchmark.training import pretext

VERSION = 1  # raise it when the weights that this file makes change


@dataclass(frozen=True)
class Settings:
    """What is run. side: of the square crops in px; patches, held_out: numbers of 256×256 patches drawn."""

    patches: int = 256
    held_out: int = 18
    updates: int = 640
    batch: int = 8
    side: int = 128
    lr: float = 7e-4
    weight_decay: float = 0.05
    warmup: float = 0.1


BACKBONES = {
    "tiny": Settings(),
    "nano": Settings(patches=8, held_out=4, updates=40, batch=8, side=64, lr=3e-3),
}


@dataclass(frozen=True)
class Pretrained:
    """path: .safetensors with timm's keys; seconds: that the training took; name: the backbone's."""

    path: Path
    seconds: float
    name: str


def settings_for(backbone: str, updates: int | None = None) -> Settings:
    """Settings of a backbone, with this number of updates unless None.

    A longer pretext has as many more patches as updates: each patch is seen as often as in the default one.

    Raises:
        InputError: a backbone without pretext, fewer than 1 update.
    """
    if backbone not in BACKBONES:
        raise InputError(
            f"There is no pretext training for the backbone '{backbone}', only for {', '.join(BACKBONES)}; "
            f"pass a weights file instead.{near_miss(backbone, BACKBONES)}"
        )
    if updates is not None and updates < 1:
        raise InputError(f"The pretext's updates are {updates}; expected at least 1.")
    settings = BACKBONES[backbone]
    if updates is None:
        return settings
    return replace(settings, updates=updates, patches=settings.patches * max(1, updates // settings.updates))


def key(backbone: str, seed: int = 0, updates: int | None = None) -> str:
    """16 hex digits over everything that decides the weights, library versions and thread count apart."""
    parts = {
        "version": VERSION,
        "pretext": pretext.VERSION,
        "generator": synthetic.VERSION,
        "backbone": vit.BACKBONES[backbone] if backbone in vit.BACKBONES else backbone,
        "settings": asdict(settings_for(backbone, updates)),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def ensure(
    backbone: str, cache: Path, seed: int = 0, *, updates: int | None = None, progress: bool = True
) -> Pretrained:
    """The pretrained weights of `backbone`: from the cache, or trained now (about a minute for "tiny").

    Safe to call from several processes at once: one works, the others wait. An interrupted run starts again.

    Args:
        backbone: a key of BACKBONES.
        cache: folder; the weights lie in cache/pretrain/<backbone>-<key>.safetensors, figures beside it.
        seed: of patches, crops and initial weights.
        updates: overrides the number of updates.
        progress: report progress on stderr.

    Raises:
        InputError: no pretext training for this backbone.
        OSError: the cache cannot be written.
    """
    settings = settings_for(backbone, updates)
    path = _path(backbone, cache, seed, updates)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if (record := _read(path)) is None:
            sweep(path.parent, path.stem)
            started = time.perf_counter()
            state, figures = train(backbone, settings, seed, progress)
            payload = safetensors.torch.save(state)
            with atomic(path) as handle:
                handle.write(payload)
            record = figures | {
                "backbone": backbone,
                "seed": seed,
                "settings": asdict(settings),
                "seconds": round(time.perf_counter() - started, 2),
                "sha256": hashlib.sha256(payload).hexdigest(),
                "versions": {
                    "torch": torch.__version__,
                    "timm": timm.__version__,
                    "python": platform.python_version(),
                },
                "threads": torch.get_num_threads(),
            }
            write_json(path.with_suffix(".json"), manifest.listed(record))
    return Pretrained(path, record["seconds"], backbone)


def _path(backbone: str, cache: Path, seed: int, updates: int | None) -> Path:
    return Path(cache) / "pretrain" / f"{backbone}-{key(backbone, seed, updates)}.safetensors"


def _read(path: Path) -> dict | None:
    """The figures of finished, undamaged weights, or None."""
    try:
        figures = read_json(path.with_suffix(".json"))
        manifest.check_content(path.with_suffix(".json"), figures)
        return figures if hashlib.sha256(path.read_bytes()).hexdigest() == figures["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def train(backbone: str, settings: Settings, seed: int, progress: bool) -> tuple[dict[str, Tensor], dict]:
    """Run the pretext. Returns the backbone's state dict and figures: losses per update, held-out scores.

    Bit-reproducible under the same settings, seed, library versions and number of threads.
    """
    show, drawn = Progress(f"pretraining {backbone}: drawn", "patches", progress), itertools.count()

    def tick():
        show(next(drawn), settings.patches + settings.held_out)

    tick()
    held_out = pretext.Patches(settings.held_out, seed, pretext.FIRST_SLIDE, tick)
    train_set = pretext.Patches(settings.patches, seed, pretext.FIRST_SLIDE + settings.held_out, tick)
    # timm draws initial weights from the global generator: fork it, so that the caller's stays as it is
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Probed(backbone)
    constant = train_set.whole(settings.side)[1].mean((0, 2, 3)).clamp(1e-6, 1 - 1e-6)
    with torch.no_grad():  # start from the best answer that does not look at the image
        for name, parameter in model.probes.named_parameters():
            if name.endswith("1.bias"):
                parameter.copy_(torch.logit(constant))
    rng = np.random.default_rng([seed, 1])
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        settings.lr,
        total_steps=settings.updates + 1,
        pct_start=settings.warmup,
        cycle_momentum=False,
    )
    show = Progress(f"pretraining {backbone}:", "updates", progress)
    show(0, settings.updates)
    curve = []
    for update in range(settings.updates):
        images, labels = train_set.batch(settings.batch, settings.side, rng)
        loss = model.loss(images, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        curve.append(round(loss.item(), 5))
        show(update + 1, settings.updates, f", loss {curve[-1]:.3f}")
    state = {k: v.detach().clone().contiguous() for k, v in model.vit.state_dict().items()}
    return state, {"losses": curve, "held_out": model.score(constant, held_out, settings.side)}


class Probed(nn.Module):
    """A ViT with a linear probe after each quarter of its blocks.

    Images (B, 3, H, W) in [0, 1]; labels (B, pretext.CHANNELS, H / 16, W / 16) in [0, 1].
    """

    def __init__(self, backbone: str):
        super().__init__()
        self.vit = vit.build_backbone(backbone)
        self.taps = vit.quarters(self.vit)
        self.probes = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(self.vit.embed_dim), nn.Linear(self.vit.embed_dim, pretext.CHANNELS))
            for _ in self.taps
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits per tap, each shaped as the labels."""
        maps, _ = vit.features(self.vit, images * 2 - 1, self.taps)
        return [probe(m.movedim(1, -1)).movedim(-1, 1) for probe, m in zip(self.probes, maps)]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy per task, averaged over tasks and taps; the last tap counts most."""
        weights = [1 / len(self.taps)] * (len(self.taps) - 1) + [1.0]
        terms = [w * _per_task(out, labels).mean() for w, out in zip(weights, self(images))]
        return sum(terms[1:], terms[0]) / sum(weights)

    @torch.no_grad()
    def score(self, constant: Tensor, held_out: pretext.Patches, side: int) -> dict:
        """Per task on held-out patches: the last tap's cross-entropy, the constant's, and R²."""
        self.eval()
        images, labels = held_out.whole(side)
        logits = torch.cat([self(part)[-1] for part in images.split(16)])
        flat = torch.logit(constant).view(1, -1, 1, 1).expand_as(labels)
        entropy, baseline = _per_task(logits, labels), _per_task(flat, labels)
        figures = {}
        for k, (task, channels) in enumerate(pretext.TASKS.items()):
            error = (logits[:, channels].sigmoid() - labels[:, channels]).square().sum()
            spread = (constant[channels].view(1, -1, 1, 1) - labels[:, channels]).square().sum()
            figures[task] = {
                "cross_entropy": entropy[k].item(),
                "constant_cross_entropy": baseline[k].item(),
                "r2": (1 - error / spread.clamp(min=1e-12)).item(),
            }
        return figures


def _per_task(logits: Tensor, labels: Tensor) -> Tensor:
    """(number of tasks,) mean cross-entropies."""
    return torch.stack([F.binary_cross_entropy_with_logits(logits[:, c], labels[:, c]) for c in pretext.TASKS.values()])


def ensure_apart(backbone: str, cache: Path, updates: int | None, threads: int | None = None) -> Pretrained:
    """`ensure`, where it has to train in a process of its own: its memory is not the cell's.

    Args:
        threads: of that process, of which the weights' last bits depend; None: torch's choice.
    """
    path = _path(backbone, cache, 0, updates)
    if (record := _read(path)) is not None:
        return Pretrained(path, record["seconds"], backbone)
    with workers.pool(1) as pool:
        return pool.submit(_ensure, backbone, cache, updates, threads).result()


def _ensure(backbone: str, cache: Path, updates: int | None, threads: int | None) -> Pretrained:
    memory.keep_freed()
    if threads is not None:
        torch.set_num_threads(threads)
    return ensure(backbone, cache, updates=updates)

"""Evaluation on realistic maps, as perf/inference.py and perf/train_step.py time it."""

import contextlib
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from bench_ops import hardware
from csv_rows import command, commit
from step_tools import Repeated

from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.sources.synthetic import CLASSES, TISSUES, draw
from benchmark.evaluation import test_set
from benchmark.layers import image_ops
from benchmark.methods import registry
from benchmark.runtime import distributed
from benchmark.runtime.placing import placed
from benchmark.runtime.precision import autocast, precision_on
from benchmark.training.scales import SCALES

MEAN, SHAPE = 24.0, 1.3  # nuclei an image: PanNuke's mean (189,744 in 7,901 images); skewness of a gamma distribution
NOISE = 0.3  # standard deviation: of ideal logits of 8, and of distances by a tenth of it


def measure(chosen) -> None:
    """Time inference and evaluation as the command line asks for them."""
    torch.set_num_threads(chosen.threads)
    world = distributed.start(chosen.device)
    gpu = world.device.type == "cuda"
    scale = chosen.scale or ("paper" if gpu else "small")
    name = f"cellvta@{'matched' if scale == 'paper' else scale}"
    samples = drawn(chosen.distinct or (64 if gpu else 16))
    counts = [len(sample.nuclei) for sample in samples]
    print(f"{hardware(world.device)}; torch {torch.__version__}; {name}; {chosen.threads} CPU thread(s)")
    density = f"mean {np.mean(counts):.1f}, 95th percentile {np.percentile(counts, 95):.0f}, largest {max(counts)}"
    print(f"nuclei an image: {density}")
    with torch.device(world.device):
        filled = {"weights": "random"} if scale == "paper" else {}
        method = registry.build(name, len(CLASSES), len(TISSUES), **filled)
    placed(method.eval(), world.device)
    prediction = SCALES[scale].prediction
    images = chosen.images or (2048 if gpu else 32)
    facts = {"hardware": hardware(world.device), "torch": torch.__version__, "method": name, "images": images}
    facts |= {"batch": prediction.batch, "nuclei": density, "commit": commit(), "command": command()}
    alone = forward_alone(method, samples, prediction, images, world.device)
    rows = [{"what": "forward alone", "images_per_s": alone, "ratio": 1.0}]
    show(rows, facts, chosen.out)
    whole, steady = evaluated(method, samples, prediction, images, world)
    more = [
        {"what": "forward, decode, match; once all run", "images_per_s": steady, "ratio": steady / alone},
        {"what": "forward, decode, match; with the processes' start", "images_per_s": whole, "ratio": whole / alone},
    ]
    show(rows + more, facts, chosen.out, printed=len(rows))


def show(rows: list[dict], facts: dict, out: Path, printed: int = 0) -> None:
    """Print the rows that are new, and write all so far to inference.csv."""
    for row in rows[printed:]:
        text = f"  {row['what']:50s} {row['images_per_s']:8.2f} images/s  {row['ratio']:.2f} of the forward pass alone"
        print(text, flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "inference.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, (*rows[0], *facts))
        table.writeheader()
        table.writerows(row | facts for row in rows)


def drawn(count: int) -> list[Sample]:
    """Images whose nuclei are thinned to PanNuke's density: as many as a gamma distribution says, in rank order."""
    samples = [draw(TISSUES[k % len(TISSUES)], k // len(TISSUES), k) for k in range(count)]
    samples.sort(key=lambda sample: len(sample.nuclei))
    rng = np.random.default_rng(0)
    wanted = stats.gamma.ppf((np.arange(count) + 0.5) / count, SHAPE, scale=MEAN / SHAPE).round().astype(int)
    out = []
    for sample, number in zip(samples, wanted):
        ids = rng.permutation(len(sample.nuclei))[:number] + 1
        kept = np.isin(np.arange(1, len(sample.nuclei) + 1), ids)
        renumbered = np.concatenate([[0], np.cumsum(kept) * kept])
        types = sample.nuclei.types[np.sort(ids) - 1]
        nuclei = Nuclei.from_labels(renumbered[sample.nuclei.instances], types, sample.nuclei.mpp)
        named = {"tissue": sample.nuclei.tissue, "image_id": sample.nuclei.image_id, "source": sample.nuclei.source}
        out.append(Sample(sample.image, replace(nuclei, **named)))
    return [out[k] for k in rng.permutation(count)]


def forward_alone(method, samples: list[Sample], prediction, images: int, device: torch.device) -> float:
    """Images per second of forward passes over batches that lie on the device; its output stays there."""
    stacked = np.stack([samples[k % len(samples)].image for k in range(prediction.batch)])
    batch = image_ops.to_float(torch.from_numpy(stacked).permute(0, 3, 1, 2).to(device))
    rounds = max(1, images // len(batch))

    def run(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            with torch.inference_mode(), autocast(precision_on(prediction.precision, device), device):
                method.predict(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    run(min(rounds, 5))
    return rounds * len(batch) / run(rounds)


def evaluated(method, samples: list[Sample], prediction, images: int, world) -> tuple[float, float]:
    """Images per second of the harness's evaluation: of the whole pass, and of the part after its first third."""
    times: list[tuple[int, float]] = []
    with perfect(method, samples, world.device):
        began = time.perf_counter()
        share = test_set.evaluate(
            method,
            Repeated(samples, images),
            prediction,
            world,
            True,
            progress=lambda done, of: times.append((done, time.perf_counter())),
        )
        test_set.join([share])
        ended = time.perf_counter()
    first, at = next(pair for pair in times if pair[0] >= images / 3)
    return images / (ended - began), (images - first) / (ended - at) if first < images else images / (ended - began)


@contextlib.contextmanager
def perfect(method, samples: list[Sample], device: torch.device) -> Iterator[None]:
    """The network runs, over `samples` in their order again and again; what it gives are their ideal maps."""
    maps = ideal(method, samples, device)
    plain, position = method.predict, 0

    def predict(inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal position
        outputs = plain(inputs)
        # made on the device: a copy from here would wait for the forward pass, and the next one would begin after that
        rows = torch.arange(position, position + len(inputs), device=device).remainder(len(samples))
        position += len(inputs)
        return outputs | {name: values[rows] for name, values in maps.items()}

    method.predict = predict
    try:
        yield
    finally:
        del method.predict


def ideal(method, samples: list[Sample], device: torch.device) -> dict[str, torch.Tensor]:
    """Raw maps (images, C, H, W) on the device: what a perfect network would give, with noise."""
    way, rng = method.representation, torch.Generator().manual_seed(0)
    each = [way.ideal(way.targets(sample.nuclei), len(CLASSES)) for sample in samples]
    out = {}
    for name in each[0]:
        values = torch.stack([torch.from_numpy(np.ascontiguousarray(maps[name])) for maps in each]).float()
        noise = torch.randn(values.shape, generator=rng) * (NOISE / 10 if name == "hv" else NOISE)
        out[name] = (values + noise).to(device)
    return out

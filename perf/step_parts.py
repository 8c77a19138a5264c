"""What perf/train_step.py measures, part by part."""

import contextlib
import gc
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from bench_ops import hardware
from realistic import drawn, perfect
from step_rows import failed, of_outcomes, shown, table, write
from step_tools import Kept, Repeated, matrix_rate, operations
from step_variants import FAST, GOAL, HARNESS, LEVERS, Variant, compiled_in_evaluation

from benchmark.data.registry import dataset
from benchmark.data.store.prepare import Prepared, prepare
from benchmark.evaluation.test_set import POOL_FROM
from benchmark.experiment import flops
from benchmark.methods import registry
from benchmark.results.run_folder import RunFolder
from benchmark.runtime import distributed, memory
from benchmark.runtime.placing import placed
from benchmark.runtime.precision import autocast, precision_on
from benchmark.runtime.workers import Lasting, usable_cores
from benchmark.training import graphed, loader, loop
from benchmark.training.scales import SCALES
from benchmark.training.state import TrainState
from benchmark.training.validation import sides, validate

PANNUKE = {"training": 2656, "validation": 2523, "epochs": 100}  # split 1


@dataclass
class Bench:
    """What all measurements share.

    Attributes:
        scale: whose recipe and rows are taken; steps, warm: updates that are timed, and before them.
        peak: floating-point operations per second of a large matrix product, by number format.
        stop: why no other row is begun, "" while any may be.
    """

    world: distributed.World
    data: Prepared
    scale: str
    steps: int
    warm: int
    out: Path
    until: float
    peak: dict[str, float]
    rows: list[dict]
    stop: str = ""

    @property
    def gpu(self) -> bool:
        return self.world.device.type == "cuda"

    def row(self, part: str, method: str, what: str, measure) -> dict | None:
        """Measure and write one row; `measure` returns its columns. None where the time is up or it failed."""
        if time.monotonic() > self.until:
            self.stop = self.stop or "the time is up"
        if self.stop:
            print(f"{part}: {method}, {what}: not run, {self.stop}", flush=True)
            return None
        try:
            values = measure()
        except Exception as error:  # a variant that cannot run here costs its own row only
            values = {"note": f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:400]}"}
            if isinstance(error, graphed.CaptureFailed):
                self.stop = "a capture failed and left this process unusable"
        if self.gpu and not self.stop:
            gc.collect()  # of cycles of references: a network that has graphs
            torch.cuda.empty_cache()
        row = {"part": part, "method": method, "what": what} | values
        self.rows.append(row)
        write(self)
        print(
            f"{part:8s} {method:28s} {what:44s} " + ", ".join(f"{k} {shown(v)}" for k, v in values.items()), flush=True
        )
        return None if failed(row) else row

    def chosen(self, variants: tuple[Variant, ...]) -> list[Variant]:
        """Those that mean something on this device."""
        return [one for one in variants if self.gpu or not one.gpu]


def measure(chosen) -> int:
    """Measure what the command line asks for. Returns its exit code."""
    until = time.monotonic() + chosen.limit
    torch.set_num_threads(chosen.threads)
    world = distributed.start(chosen.device)
    gpu = world.device.type == "cuda"
    if not gpu:
        memory.keep_freed()
    steps = chosen.steps or (100 if gpu else 3)
    with tempfile.TemporaryDirectory() as cache:
        data = prepare(dataset(f"synthetic@patches={24 if gpu else 8}"), cache, 1, progress=False)
        peak = {name: matrix_rate(world.device, name) for name in (("fp32", "bf16") if gpu else ("fp32",))}
        scale = chosen.scale or ("paper" if gpu else "small")
        bench = Bench(world, data, scale, steps, 10 if gpu else 1, chosen.out, until, peak, [])
        rates = ", ".join(f"{name} {rate / 1e12:.2f} TFLOP/s" for name, rate in peak.items())
        print(f"{hardware(world.device)}; torch {torch.__version__}; {chosen.threads} CPU thread(s); products: {rates}")
        for part in chosen.parts or (MEASURES if gpu else ("goal", "loader", "levers")):
            MEASURES[part](bench)
    table(bench.rows)
    return 1 if any(failed(row) for row in bench.rows) else 0


# ---- parts


def goal(bench: Bench) -> None:
    """CellVTA at its fastest and as it is, against our own model as the published code trains it. A row that the part
    split has measured in this run stands here too."""
    done = {row["what"]: row for row in bench.rows if row["part"] == "split" and not failed(row)}
    for variant in bench.chosen(GOAL):
        if variant.what in done:
            bench.rows.append(done[variant.what] | {"part": "goal"})
            write(bench)
        else:
            bench.row("goal", *train(bench, cellvta(bench), variant))


def levers(bench: Bench) -> None:
    for variant in bench.chosen(LEVERS):
        bench.row("levers", *train(bench, cellvta(bench), variant))


def methods(bench: Bench) -> None:
    """The other networks by the fastest kernels, none compiled, in each phase of their training."""
    names = {
        "paper": ("cellvit@sam_h,double_softmax=False,cross_msge=False", "hovernet@paper", "decoder_only@matched"),
    }.get(bench.scale, (f"cellvit@{bench.scale}", f"hovernet@{bench.scale}", f"decoder_only@{bench.scale}"))
    for name in names:
        for phase, _ in enumerate(phases := plain(bench, name).phases(False)):
            fast = {"deterministic": False} if bench.gpu else {}
            variant = Variant(
                ", ".join([f"phase {phase + 1} of {len(phases)}", *(["deterministic=false"] if fast else [])]), fast
            )
            bench.row("methods", *train(bench, name, variant, phase))


def plain(bench: Bench, name: str):
    """A method whose tensors have shapes and no contents."""
    return flops.on_meta(name, len(bench.data.classes), len(bench.data.tissues))


def split(bench: Bench) -> None:
    """One PanNuke split: epochs of the fastest step, each with a validation of its size, on maps as full of nuclei;
    one-time costs left out."""
    fastest = FAST if bench.gpu else HARNESS
    row = next((r for r in bench.rows if r["what"] == fastest.what), None)
    row = row or bench.row("split", *train(bench, cellvta(bench), fastest))
    if row is None or failed(row):
        print(f"split: not run without the rate of '{fastest.what}'", flush=True)
        return
    rate = row["images_per_s"]

    def measure() -> dict:
        plain = Variant("", {"deterministic": False})  # an evaluation runs blocks as they are
        with trained(bench, cellvta(bench), plain) as (state, _, job):
            validated = validation_rate(bench, state, job)
        hours = PANNUKE["epochs"] * (PANNUKE["training"] / rate + PANNUKE["validation"] / validated) / 3600
        return {"images_per_s": validated, "note": f"one split in {60 * hours:.1f} minutes"}

    bench.row("split", cellvta(bench), "validation, once its processes run", measure)


def validation_rate(bench: Bench, state, job) -> float:
    """Images per second of a split's validation pass, once the processes that decode run."""
    images = PANNUKE["validation"] if bench.gpu else 16
    samples = drawn(64 if bench.gpu else 16)
    prediction = sides(bench.data, 1, job.recipe, 0)[2]
    # of both sizes that the batches of a pass have, and enough for the processes to start, once in a training
    warm = images % prediction.batch + (-(-POOL_FROM // prediction.batch) if bench.gpu else 1) * prediction.batch
    with Lasting() as decoders:
        for length in (warm, images):
            with perfect(state.judged, samples, bench.world.device):
                began = time.perf_counter()
                part = Repeated(samples, length)
                validate(state.judged, part, prediction, bench.world, bench.data, "protocol", decoders)
                seconds = time.perf_counter() - began
    return images / seconds


def validation(bench: Bench) -> None:
    """That pass by the network's blocks as they are, and by compiled ones, as no training has them yet."""
    for what, around in (("blocks as they are", contextlib.nullcontext), ("blocks compiled", compiled_in_evaluation)):

        def measure(around=around) -> dict:
            plain = Variant("", {"deterministic": False})
            with trained(bench, cellvta(bench), plain) as (state, _, job), around(state.judged):
                return {"images_per_s": validation_rate(bench, state, job)}

        bench.row("validation", cellvta(bench), what, measure)


def crops(bench: Bench) -> None:
    """Augmented training images per second with CellVTA's augmentation, no network."""

    def measure() -> dict:
        cores = usable_cores() if bench.gpu else 0
        images = 4000 if bench.gpu else 16
        method = plain(bench, cellvta(bench))
        recipe = replace(SCALES["paper"], samples=images + 64, workers=cores)
        subset = bench.data.subset(1, "train")
        feed = iter(loader.training_loader(subset, method, recipe, bench.data, 0, bench.world, 8))
        for _ in range(8):  # the processes' start
            next(feed)
        began = time.perf_counter()
        count = sum(len(batch["image"]) for batch in feed)
        return {"images_per_s": count / (time.perf_counter() - began), "note": f"{max(1, cores)} process(es)"}

    bench.row("loader", "cellvta", "augmentation of CellVTA, 256 px", measure)


def graph(bench: Bench) -> None:
    """The whole step, without loader and loop, launched by Python and as one CUDA graph."""
    if not bench.gpu:
        print("graph: not run, needs a GPU")
        return
    for captured in (False, True):
        bench.row(
            "graph", cellvta(bench), "one graph" if captured else "launched", lambda c=captured: by_hand(bench, c)
        )


def curve(bench: Bench) -> None:
    """Mean loss of the last three of ten epochs: bf16 beside fp32, and fp32 with another seed for the spread."""
    for what, precision, seed in (("fp32", "fp32", 0), ("bf16", "bf16", 0), ("fp32, another seed", "fp32", 1)):

        def measure(precision=precision, seed=seed) -> dict:
            variant = Variant("", {"precision": precision})
            with trained(bench, cellvta(bench), variant, seed=seed) as (state, active, job):
                active.feed.batch_sampler.samples = active.feed.batch_sampler.batch * max(1, bench.steps // 5)
                losses = [loop.train_epoch(state, active, epoch, job)["loss"] for epoch in range(10)]
            epochs = "by epoch " + " ".join(f"{loss:.3f}" for loss in losses)
            return {"loss": sum(losses[-3:]) / 3, "note": of_outcomes(active.outcomes, epochs)}

        bench.row("curve", cellvta(bench), what, measure)


# ---- one training


def cellvta(bench: Bench) -> str:
    return f"cellvta@{'matched' if bench.scale == 'paper' else bench.scale}"


def train(bench: Bench, name: str, variant: Variant, phase: int = 0) -> tuple:
    """(method, what, function that measures it): timed updates of the harness's loop."""

    def measure() -> dict:
        if bench.gpu:
            gc.collect()  # a network that is gone would count
            torch.cuda.reset_peak_memory_stats()
        with trained(bench, name, variant, phase) as (state, active, job):
            draws = active.feed.batch_sampler
            batch = draws.batch
            draws.samples = max(2, round(variant.share * bench.warm)) * batch if bench.gpu else bench.warm * batch
            loop.train_epoch(state, active, 0, job)
            steps = max(1, round(variant.share * bench.steps))
            draws.samples = steps * batch
            wait(bench)
            began = time.perf_counter()
            line = loop.train_epoch(state, active, 1, job)
            wait(bench)
            seconds = time.perf_counter() - began
            used = torch.cuda.max_memory_allocated() if bench.gpu else memory.peak_resident()
            work = operations(state.method, batch, job.recipe.crop)
        rate = steps * work / seconds
        out = {
            "steps": steps,
            "images_per_s": steps * batch / seconds,
            "ms_per_step": 1e3 * seconds / steps,
            "memory_gib": used / 2**30,
            "of_peak": rate / bench.peak["bf16" if job.precision == "bf16" and bench.gpu else "fp32"],
            "loss": line["loss"],
        }
        return out | ({"note": of_outcomes(active.outcomes)} if active.outcomes else {})

    return name, variant.what, measure


@contextlib.contextmanager
def trained(bench: Bench, name: str, variant: Variant, phase: int = 0, seed: int = 0):
    """(state, active phase, job) of a training that is about to begin, within the variant's contexts."""
    changes = {"samples": 1024, "pretrain": 0} | ({"batch": 8} if bench.gpu else {}) | variant.recipe
    recipe = replace(SCALES[bench.scale], **changes)
    torch.manual_seed(seed)
    with torch.device(bench.world.device):
        filled = {"weights": "random"} if bench.scale == "paper" and "hovernet" not in name else {}
        method = registry.build(name, len(bench.data.classes), len(bench.data.tissues), **filled)
        placed(method, bench.world.device)
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        for context in variant.around:
            stack.enter_context(context(method))
        world, precision = bench.world, precision_on(recipe.precision, bench.world.device)
        job = loop.Job(bench.data, 1, seed, recipe, RunFolder(Path(folder)), world, "", "", False, print)
        loop.choose_kernels(recipe.deterministic)
        phases = method.phases(False)
        state = TrainState.new(method, recipe, precision, world.device)
        active = loop.enter(state, phases, phase, [0] * len(phases), sides(bench.data, 1, recipe, seed)[0], job)
        if variant.feed == "kept":
            active = replace(active, feed=Kept(active.feed, world.device))
        yield state, active, job


def by_hand(bench: Bench, captured: bool) -> dict:
    """Forward, loss, backward and AdamW on a batch that lies on the device."""
    with trained(bench, cellvta(bench), Variant("", {"deterministic": False}, feed="kept")) as (state, active, job):
        method, batch, device = state.method, active.feed.batch, bench.world.device
        weights = [p for p in method.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(weights, 1e-5, fused=True, capturable=True)

        def step() -> torch.Tensor:
            with autocast(job.precision, device):
                outputs = method.train()(batch["image"])
            loss = sum(method.loss({k: v.float() for k, v in outputs.items()}, batch).values())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            return loss.detach()

        run, loss = step, None
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(bench.warm):
                loss = step()
            if captured:
                with graphed.waiting_refused():  # what a capture would not survive ends this row alone
                    loss = step()
        torch.cuda.current_stream().wait_stream(stream)
        if captured:
            whole = torch.cuda.CUDAGraph()
            with graphed.capturing(device), torch.cuda.graph(whole, capture_error_mode="thread_local"):
                loss = step()
            run = whole.replay
        wait(bench)
        began = time.perf_counter()
        for _ in range(bench.steps):
            loss = run() if run is step else (run(), loss)[1]
        wait(bench)
        seconds = time.perf_counter() - began
        images = bench.steps * len(batch["image"])
    return {"images_per_s": images / seconds, "ms_per_step": 1e3 * seconds / bench.steps, "loss": float(loss)}


# ---- the machine


def wait(bench: Bench) -> None:
    if bench.gpu:
        torch.cuda.synchronize()


MEASURES = {
    "goal": goal,
    "split": split,
    "validation": validation,
    "methods": methods,
    "loader": crops,
    "levers": levers,
    "graph": graph,
    "curve": curve,
}

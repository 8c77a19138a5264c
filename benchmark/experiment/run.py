"""One cell from start to finish: data, weights, training, test, records, and metrics.json last of all."""

import contextlib
import os
import socket
import sys
import traceback
from dataclasses import asdict, replace

import filelock
import numpy as np
import torch

from benchmark.data.store.prepare import prepare
from benchmark.evaluation import test_set
from benchmark.evaluation.scoring import protocol_scores, worded
from benchmark.experiment.cell import Cell
from benchmark.experiment.cost import Cost, gflops, op_backend, peak_memory, speed, trainable
from benchmark.experiment.encoder_weights import EncoderWeights, file_mark
from benchmark.experiment.state import of_another, state_of
from benchmark.methods import registry
from benchmark.results import aside, provenance, raw_maps
from benchmark.results.restate import restate
from benchmark.results.run import scale_of
from benchmark.runtime import distributed, memory
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import read_json, write_json
from benchmark.runtime.placing import placed
from benchmark.runtime.precision import precision_on
from benchmark.runtime.progress import Progress
from benchmark.training import checkpoint, loop
from benchmark.training.pretrain import ensure_apart


def main(cell: Cell, keep_maps: bool = False) -> dict:
    """Run a cell in this process, alone or as one of torchrun's."""
    world = distributed.start(cell.setup.device)
    if world.device.type == "cpu":
        memory.keep_freed()
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
    try:
        return run(cell, world, keep_maps=keep_maps)
    finally:
        distributed.stop(world)


def run(cell: Cell, world, keep_maps: bool = False) -> dict:
    """Run a cell, or return its stored metrics when it is done.

    A stale result is moved aside; a failed or partial one is taken up where it stands.

    Args:
        world: a `runtime.distributed.World`; of several processes the first decides what is done, and writes.
        keep_maps: store the raw maps of the test images too; a done cell without them predicts once more.

    Raises:
        InputError: bad input, gated weights absent, or another live process holds the cell.
    """
    announced = provenance.COMMAND in os.environ  # the grid has prepared the data and shown its progress
    data = prepare(
        cell.setup.source,
        cell.setup.cache,
        split=cell.split,
        progress=world.first and not announced,
        verify=world.first,
    )
    attempt = Attempt(cell, data, world, keep_maps)
    if not world.first:
        task = world.gather(None)[0]
        if isinstance(task, InputError):
            raise task
        return attempt.work(task)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(cell))
            task = attempt.task()
        except InputError as error:
            world.gather(error)  # the others wait to hear what there is to do
            raise
        world.gather(task)
        return attempt.work(task)


@contextlib.contextmanager
def _locked(cell: Cell):
    """Hold the cell's lock. Raises InputError when it cannot run here or another process runs it."""
    state = state_of(cell)
    if state.name == "skipped":
        raise InputError(f"{cell.run} cannot run here: {state.why}.")
    lock = cell.folder.lock()
    try:
        lock.acquire(timeout=2)  # a look at the state by another process holds it for a moment
    except filelock.Timeout as error:
        raise InputError(f"{cell.run} is running already ({state_of(cell).why}); wait for it or stop it.") from error
    try:
        yield
    finally:
        lock.release()


class Attempt:
    """The part of one process in running a cell.

    Attributes:
        data: the prepared data, a `data.store.prepare.Prepared`.
        prediction: how images are predicted.
        say: prints a line of progress; of several processes, the first speaks.
    """

    def __init__(self, cell: Cell, data, world, keep_maps: bool):
        self.cell, self.data, self.world, self.keep_maps = cell, data, world, keep_maps
        self.folder, self.prediction = cell.folder, cell.weights.prediction(cell)

    def say(self, line: str) -> None:
        if self.world.first:
            print(f"[{self.cell.run}] {line}", file=sys.stderr, flush=True)

    def task(self) -> str:
        """The task that remains: "run", "maps" (predict once more to keep raw maps) or "nothing"."""
        self.folder.sweep()
        if self.folder.leaving.exists():  # a kill came between
            self.say(f"what was here is moved to {aside.finish(self.folder)}")
        state = state_of(self.cell, locked=True)  # another process may have finished it meanwhile
        if state.name != "done":
            if state.name == "stale" or of_another(self.cell):
                why = f"stale: {state.why}" if state.name == "stale" else "made under another configuration"
                self.say(f"what was here is moved to {aside.move(self.folder)} ({why}); running anew")
            return "run"
        self._say_overlap()
        return "maps" if self.keep_maps and not self._all_maps_are_kept() else "nothing"

    def _say_overlap(self) -> None:
        """Have a result that was stored before anybody looked into the overlap say what is known of it now."""
        if config := self.cell.weights.completed(self.cell, self.folder.stored(self.folder.config)):
            restate(self.folder, config)

    def _all_maps_are_kept(self) -> bool:
        """Whether the raw maps of every test image are there and can be opened."""
        images = len(self._test_side())
        try:
            return raw_maps.StoredMaps(self.folder).images == list(range(images))
        except InputError:
            return False

    def _test_side(self):
        """The images that are tested on."""
        images = self.data.subset(self.cell.split, "test")
        left_out = self.cell.weights.left_out()
        return images.without(left_out) if left_out else images

    def work(self, task: str) -> dict:
        """Do a task; the first process returns the stored metrics, others {}."""
        if task == "run":
            self._run()
        elif task == "maps":
            self.say("done already; predicting once more for its maps")
            self._predict_again()
        elif self.world.first:
            self.folder.checkpoint.unlink(missing_ok=True)
            self.say("already done")
        return read_json(self.folder.metrics) if self.world.first else {}

    def _run(self) -> None:
        if self.world.first:
            self.folder.begin()
        self.world.barrier()  # an earlier failure is gone before this attempt's can come
        try:
            self._check_folder()
            advice = "give it a machine of its own, raise recipe.accumulate, or set recipe.recompute=true"
            with memory.suffices(str(self.cell.run), advice):
                self._train_and_test()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.folder.fail(self._reason(error))
            raise
        finally:
            if self.world.first:
                self.folder.end()

    def _check_folder(self) -> None:
        """Raise InputError when a process does not see what the first one writes."""
        seen = self.world.gather((socket.gethostname(), self.folder.owner.exists()))
        if blind := sorted({host for host, sees in seen if not sees}):
            raise InputError(
                f"{self.folder}: expected a folder that all {self.world.size} processes see, those on "
                f"{', '.join(blind)} do not; set RESULTS= to a file system that the machines share."
            )

    def _reason(self, error: BaseException) -> str:
        """Text of a failure, its last line the one that `status` shows; of several processes it names all but the
        first."""
        reason = f"{error}" if isinstance(error, InputError) else traceback.format_exc().rstrip()
        if self.world.first:
            return f"{reason}\n"
        before, _, last = reason.rpartition("\n")
        where = f"process {self.world.rank} of {self.world.size} (counted from 0, on {socket.gethostname()})"
        return f"{before}\n{where}: {last}\n".lstrip("\n")

    def _train_and_test(self) -> None:
        cell, data, world = self.cell, self.data, self.world
        encoder, pretrain_seconds = self._encoder()
        method = self._build(encoder)
        origin = provenance.describe(
            cell.seed,
            str(world.device),
            op_backend(method, world.device),
            data.fingerprint(cell.split),
            registry.package_of(cell.spec.name),
        )
        config = describe(cell, data, encoder)
        if world.first:
            write_json(self.folder.config, config)  # a checkpoint belongs to the key in it
        precision = precision_on(cell.recipe.precision, world.device)
        self._introduce(method, encoder, precision)
        trained = self._train(method, encoder)
        evaluation = self._test(method)
        peak, kind = peak_memory(world)
        if world.first:
            cost = Cost(
                params=sum(p.numel() for p in method.parameters()),
                trainable=trainable(method, method.phases(cell.setup.config.kind == "published")),
                gflops=gflops(cell, data, self._seen_shape(), self.say),
                train_seconds=round(trained.seconds, 2),
                epochs=trained.epochs,
                **speed(evaluation, world.size),
                peak_memory_bytes=peak,
                peak_memory_kind=kind,
                pretrain_seconds=round(pretrain_seconds, 2),
                precision=precision,
                processes=world.size,
            )
            self._store(method, config, origin, trained, evaluation, cost)
        world.barrier()

    def _seen_shape(self) -> tuple[int, int]:
        """Height and width at which the network sees the first test image."""
        return test_set.seen_at(self._test_side()[0], self.prediction.mpp).shape[:2]

    def _encoder(self) -> tuple[EncoderWeights, float]:
        """(weights of the encoder, seconds of its pretext), which is trained here in a process of its own."""
        encoder = self.cell.encoder
        if encoder.source != "pretext":
            return encoder, 0.0
        backbone = self.cell.cls.backbone_of(self.cell.spec.arguments)
        pretext = ensure_apart(backbone, self.cell.setup.cache, self.cell.recipe.pretrain)
        return replace(encoder, source=str(pretext.path), mark=file_mark(pretext.path)), pretext.seconds

    def _build(self, encoder: EncoderWeights):
        torch.manual_seed(self.cell.seed)
        filled: dict = {"weights": encoder.source} if encoder.source and self.cell.cls.trainable else {}
        return registry.build(self.cell.spec, *self.cell.heads(self.data), **filled)

    def _introduce(self, method, encoder: EncoderWeights, precision: str) -> None:
        weights = f", backbone weights: {encoder.label}" if self.cell.cls.encoder_of(self.cell.spec.arguments) else ""
        self.say(f"{sum(p.numel() for p in method.parameters()):,} parameters{weights}")
        name, device = self.cell.recipe.precision, self.world.device
        if name not in ("auto", precision):
            self.say(f"recipe.precision={name} is for GPUs; {device.type} computes in {precision}")

    def _train(self, method, encoder: EncoderWeights) -> loop.Trained:
        """Train the method or fill it from a file; it ends on the device with the weights to be tested."""
        cell = self.cell
        if cell.trains:
            job = loop.Job(
                data=self.data,
                split=cell.split,
                seed=cell.seed,
                recipe=cell.recipe,
                folder=self.folder,
                world=self.world,
                key=cell.key,
                pretrained=encoder.mark,
                published=cell.setup.config.kind == "published",
                say=self.say,
            )
            trained = loop.train(method, job)
            checkpoint.load_weights(self.folder.weights, method)
        else:
            cell.weights.fill(method)
            trained = loop.Trained(-1, None, 0.0, 0, {})
        placed(method, self.world.device)
        return trained

    def _test(self, method) -> test_set.Evaluation | None:
        """Predict and score the test images; the results of all processes in the first one, None in the others."""
        share = self._predict(method, "test:", keep=True, keep_maps=self.keep_maps)
        shares = self.world.gather_first(share)
        if not self.world.first:
            return None
        return test_set.join(shares)

    def _predict_again(self) -> None:
        """Predict the test images with the stored weights and store the raw maps."""
        method = registry.build(self.cell.spec, *self.cell.heads(self.data))
        if self.cell.trains:
            self.folder.check(self.folder.weights)
            checkpoint.load_weights(self.folder.weights, method)
        else:
            self.cell.weights.fill(method)
        placed(method, self.world.device)
        self._predict(method, "maps:", keep=False, keep_maps=True)
        self.world.barrier()
        if self.world.first:
            raw_maps.drop(self.folder, self.world.size)
            self.folder.list_files()
            self.folder.queued.unlink(missing_ok=True)

    def _predict(self, method, what: str, keep: bool, keep_maps: bool):
        """This process's share of the test images, see `test_set.evaluate`."""
        subset = self._test_side()
        matching = self.cell.weights.matched(self.cell)
        typed = method.has_types and bool(self.cell.heads(self.data)[0]) and self.cell.weights.saw_types
        show = Progress(what, "images", self.world.first, end=False)
        show(0, len(subset))
        with raw_maps.writing(self.folder, self.world.rank) if keep_maps else contextlib.nullcontext() as put:
            return test_set.evaluate(
                method,
                subset,
                self.prediction,
                self.world,
                typed,
                keep=keep,
                progress=show,
                put=put,
                types=matching.table if matching else None,
                true_types=matching.true_table if matching else None,
            )

    def _store(self, method, config: dict, origin: dict, trained, evaluation, cost: Cost) -> None:
        cell, data = self.cell, self.data
        subset = self._test_side()
        metrics = {
            "key": cell.key,
            "identity": cell.identity,
            "protocols": protocol_scores(evaluation.records, list(cell.weights.classes(cell)), list(data.tissues)),
            "n_images": evaluation.images,
            "n_untyped": int((~np.asarray(subset.typed)).sum()),
            "best_epoch": trained.best_epoch,
            "val_bPQ": trained.best_bpq,
            "ceiling": test_set.ceiling(method, subset, len(data.classes), self.prediction) if cell.trains else None,
        }
        raw_maps.drop(self.folder, self.world.size if self.keep_maps else 0)
        origin |= trained.outcomes
        # sums over threads are added in another order by another number of them: the same bits need the same number
        execution = cell.recipe.execution() | {"threads": torch.get_num_threads()}
        self.folder.finish(
            config=config,
            records=evaluation.records,
            predictions=evaluation.predictions,
            provenance=origin | {"execution": execution, "licences": licences(cell), "finished": provenance.now()},
            cost=asdict(cost),
            metrics=metrics,
        )
        protocol = cell.setup.config.protocol
        score = worded(metrics["protocols"][protocol]["bPQ"])
        self.say(f"test {score} ({protocol} protocol), training {trained.seconds:.0f} s -> {self.folder}")


def licences(cell: Cell) -> dict:
    """Licences of the method's code, of the published weights that filled its encoder and of the data; None where one
    is not known, or there are no such weights."""
    filled = cell.trains and cell.encoder.source not in ("", None, "pretext")
    weights = cell.cls.weights_licence(cell.spec.arguments) if filled else None
    return {"code": cell.cls.licence or None, "weights": weights, "data": cell.setup.source.licence or None}


def describe(cell: Cell, data, encoder: EncoderWeights) -> dict:
    """The contents of config.json."""
    return {
        "key": cell.key,
        "dataset": cell.setup.label,
        "method": cell.name,
        "spec": str(cell.spec),
        "settings": cell.settings,
        "name": cell.spec.name,
        "row": cell.spec.row,
        "scale": scale_of(str(cell.spec)),
        "arguments": cell.spec.arguments,
        "fold": cell.split,
        "seed": cell.seed,
        "kind": cell.run.kind,
        "experiment": cell.setup.experiment,
        "classes": list(cell.weights.classes(cell)),
        "tissues": list(data.tissues),
        "mpp": data.mpp,
        **({"sets": list(cell.setup.source.labels)} if cell.setup.source.parts else {}),
    } | cell.weights.describe(cell, encoder)

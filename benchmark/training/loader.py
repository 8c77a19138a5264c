"""Training crops as batches: every random choice is a function of (seed, epoch, position)."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmark.data.joint_sides import JointSubset
from benchmark.evaluation.resampling import seen_whole
from benchmark.layers.image_ops import to_float
from benchmark.runtime.workers import usable_cores
from benchmark.training import sampling
from benchmark.training.augment import apply
from benchmark.training.recipe import Recipe, Sampling


class Crops(Dataset):
    """Augmented crops of a training subset with a method's targets.

    An item's key is (epoch, position, index): which epoch, which draw of that epoch, which image.

    Args:
        mpp: to which images of several data sets are resampled; None for those of one, which are seen as they are.
    """

    def __init__(self, subset, method, recipe: Recipe, tissues: tuple[str, ...], seed: int, mpp: float | None = None):
        self.subset, self.mpp = subset, mpp
        self.named = subset.named if isinstance(subset, JointSubset) else None
        self.targets = method.representation.targets
        self.side, self.centred = recipe.crop, recipe.crop_at == "centre"
        self.from_patch = method.patch_targets and self.centred
        before = (method.input_side(self.side) - self.side) // 2
        self.context = (before, method.input_side(self.side) - self.side - before)
        self.steps = augmentations(recipe.augment)
        self.tissue_ids = {name: i for i, name in enumerate(tissues)}
        self.seed = seed

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, torch.Tensor]:
        epoch, position, index = key
        rng = np.random.default_rng([self.seed, 1, epoch, position])
        sample = self.subset[index]
        sample = apply.augment(sample if self.mpp is None else seen_whole(sample, self.mpp), rng, self.steps)
        image, nuclei = apply.crop(sample, None if self.centred else rng, self.side, self.context)
        # where the patch is smaller than the crop there is nothing around it to look at
        whole = self.from_patch and min(sample.nuclei.instances.shape) >= self.side
        targets = self.targets(nuclei, sample.nuclei) if whole else self.targets(nuclei)
        item = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in targets.items()}
        item["image"] = to_float(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1))
        item["typed"] = torch.tensor(nuclei.typed)
        item["tissue"] = torch.tensor(self.tissue_ids.get(nuclei.tissue, -1))
        if self.named is not None:
            item["named"] = torch.from_numpy(self.named[self.subset.place(index)[0]])
        return item


class Draws:
    """The order of one epoch: yields lists of keys, one list per batch of this rank.

    weights: (N,) of a draw with replacement, or N: all images shuffled, each once before any comes again.
    """

    def __init__(self, weights: np.ndarray | int, samples: int, batch: int, seed: int, rank: int = 0, world: int = 1):
        self.weights, self.seed, self.rank, self.world = weights, seed, rank, world
        self.samples = samples
        self.batch = min(batch, samples)
        self.epoch = 0

    def __len__(self) -> int:
        return max(1, self.samples // self.batch)

    def __iter__(self):
        rng = np.random.default_rng([self.seed, 0, self.epoch])
        if isinstance(self.weights, int):
            rounds = -(-self.samples // self.weights)
            order = np.concatenate([rng.permutation(self.weights) for _ in range(rounds)])[: self.samples]
        else:
            order = sampling.draws(self.weights, self.samples, rng)
        share = -(-self.batch // self.world)
        for b in range(len(self)):
            positions = range(
                b * self.batch + self.rank * share,
                min((b + 1) * self.batch, b * self.batch + (self.rank + 1) * share),
            )
            yield [(self.epoch, p, int(order[p])) for p in positions]


def training_loader(subset, method, recipe: Recipe, data, seed: int, world, batch: int):
    """A DataLoader over `Crops` of this rank; set `loader.batch_sampler.epoch` before each epoch.

    Args:
        data: the `data.store.prepare.Prepared` that `subset` belongs to.
    """
    draws = Draws(
        draw_weights(subset, recipe, data),
        recipe.samples or len(subset),
        batch,
        seed,
        world.rank,
        world.size,
    )
    workers = recipe.workers
    if workers is None:
        workers = 0 if world.device.type == "cpu" else min(8, max(1, usable_cores() // world.local - 1))
    return DataLoader(
        Crops(subset, method, recipe, data.tissues, seed, data.mpp if isinstance(subset, JointSubset) else None),
        batch_sampler=draws,
        num_workers=workers,
        persistent_workers=workers > 0,
        # the loader's own seed must not be drawn from the generator that dropout uses: a resumed run starts its
        # workers at another epoch than an unbroken one
        generator=torch.Generator().manual_seed(seed),
        pin_memory=world.device.type == "cuda",
    )


def draw_weights(subset, recipe: Recipe, data) -> np.ndarray | int:
    """The `weights` of `Draws` for a training side.

    Of several data sets each has its own weights, as if it were alone, scaled to the set's share: `recipe.shares`.
    The random strategy shuffles all images where shares go by their number, else draws with replacement.
    """
    settings = recipe.sampling
    is_random = settings.strategy == "random"
    if not isinstance(subset, JointSubset):
        return len(subset) if is_random else image_weights(subset, settings, data.name)
    if is_random and recipe.shares == "images":
        return len(subset)
    shares = [1.0 if recipe.shares == "equal" else float(len(one)) for one in subset.sets]
    weights = []
    for one, share, own in zip(subset.sets, shares, data.sets):
        of_set = np.ones(len(one)) if is_random else image_weights(one.images, settings, own.name)
        weights.append(of_set / of_set.sum() * share)
    return np.concatenate(weights)


def image_weights(subset, settings: Sampling, dataset: str) -> np.ndarray:
    """float64 (N,): how often each image of the data set `dataset` is drawn, not normalised."""
    # the published constants are counts of PanNuke; elsewhere the images at hand are counted
    factors = "pannuke" if settings.factors == "pannuke" and dataset == "pannuke" else None
    weights = sampling.weights(subset.tissues, subset.counts, settings.strategy, settings.gamma, factors)
    if subset.typed.any():  # an image of unknown types must not count as one without nuclei
        weights[~subset.typed] = weights[subset.typed].mean()
    return weights


def augmentations(steps) -> list[dict]:
    """A list of steps, or the name of one: "matched" or a published recipe's."""
    if not isinstance(steps, str):
        return [dict(s) for s in steps]
    return apply.MATCHED if steps == "matched" else apply.PUBLISHED[steps]

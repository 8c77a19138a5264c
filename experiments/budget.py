# Whether the schedule of `claim` is long enough: its pair of arms trained for one, two and four times as many epochs.
_base_ = ["claim.py"]

methods = [
    f"{arm},recipe.epochs={epochs}"
    for epochs in (64, 128, 256)
    for arm in ("cellvta@recipe.optimiser.lr=2e-3", "decoder_only@recipe.optimiser.lr=8e-3")
]
folds = [1]
seeds = [0, 1]

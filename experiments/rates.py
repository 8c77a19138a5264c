# The learning rate of each arm of `claim`, by one search: the same grid for all, split 1, seed 0, best validation bPQ.
_base_ = ["_base_/matched.py"]

dataset = "synthetic@patches=168"
preset = "mini"
methods = [
    f"{arm}@recipe.optimiser.lr={rate}"
    for rate in (5e-4, 1e-3, 2e-3, 4e-3)
    for arm in ("cellvta", "decoder_only", "full_finetune")
] + [f"decoder_only@recipe.optimiser.lr={rate}" for rate in (8e-3, 16e-3)]  # its best lay on the edge of the grid
folds = [1]
seeds = [0]

# Is the gain the adapter's or the decoder's? Both arms of the claim with each instance representation, at the learning
# rates that `rates` found for them with HV maps (docs/representations.md).
_base_ = ["_base_/matched.py"]

dataset = "synthetic@patches=168"
preset = "mini"
methods = [
    f"{arm}@instances={instances},recipe.optimiser.lr={rate}"
    for instances in ("hv", "stardist", "flows", "cpp")
    for arm, rate in (("cellvta", 2e-3), ("decoder_only", 8e-3))
]
folds = [1, 2, 3]
seeds = [0, 1, 2]

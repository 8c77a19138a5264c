# The paper's claim in miniature (docs/claim.md): the adapter against its decoder alone and against fine-tuning, each at
# the learning rate that `rates` found for it, three splits and three seeds.
_base_ = ["_base_/matched.py"]

dataset = "synthetic@patches=168"
preset = "mini"
methods = [
    "cellvta@recipe.optimiser.lr=2e-3",
    "decoder_only@recipe.optimiser.lr=8e-3",
    "full_finetune@recipe.optimiser.lr=1e-3",
]
folds = [1, 2, 3]
seeds = [0, 1, 2]

# CellVTA, its tuning arms and its rivals under one matched recipe.
_base_ = ["_base_/matched.py"]

methods = ["cellvta", "decoder_only", "full_finetune", "cellvit", "hovernet", "classical"]
folds = [1]
seeds = [0]

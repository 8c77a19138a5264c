# The published CellVTA code's quirks, one at a time on the matched model (see docs/faithfulness.md).
_base_ = ["_base_/matched.py"]

# fmt: off
methods = [
    "cellvta",
    "cellvta@cls_in_vit=false", "cellvta@offset_grid=false", "cellvta@double_softmax=true", "cellvta@cross_msge=true",
    "cellvta@drop_path=0.4",
]
# fmt: on
folds = [1]
seeds = [0]
recipes = dict(mini=dict(optimiser=dict(lr=2e-3)))  # the rate that `rates` found for cellvta: its row is the claim's

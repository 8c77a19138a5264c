# What CellVTA's parts and tuning strategies are worth. Every arm takes the row of PRESET (at full scale `matched`) and
# changes one thing; an arm that spells its row's own value is that row, so that each scale has its own few.
_base_ = ["_base_/matched.py"]

# fmt: off
methods = [
    "cellvta",
    # what trains
    "decoder_only", "full_finetune", "cellvit@tune=lora", "cellvta@tune=lora",
    "cellvta@tune=adapter+full",
    # what is there
    "cellvta@injector=false", "cellvta@extractor=false", "cellvta@spatial_prior=false", "cellvta@vit_features=false",
    "cellvta@attention=global",
    # how much of it
    "cellvta@interactions=1", "cellvta@interactions=2", "cellvta@interactions=4",
    "cellvta@extra_extractors=0", "cellvta@extra_extractors=2",
    "cellvta@points=1", "cellvta@points=2", "cellvta@points=4", "cellvta@points=8",
    "cellvta@heads=4", "cellvta@heads=8",
    "cellvta@deform_ratio=0.25", "cellvta@deform_ratio=0.5", "cellvta@deform_ratio=1.0",
    "cellvta@adapter_width=0.5", "cellvta@adapter_width=2.0",
]
# fmt: on
folds = [1]
seeds = [0]
# the rate that `rates` found for cellvta, whose row is the claim's; arms that tune otherwise have their own in claim.py
recipes = dict(mini=dict(optimiser=dict(lr=2e-3)))

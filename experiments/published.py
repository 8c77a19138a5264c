# Each method under its own published recipe (declared in the method's file), for numbers to set beside the papers'.
# The published seeds are 19 (CellVTA) and 10 (HoVer-Net): names only, since the streams of random numbers differ.
_base_ = ["_base_/matched.py"]

kind = "published"
methods = ["cellvta", "cellvit@vit256", "cellvit@sam_b", "cellvit@sam_l", "cellvit@sam_h", "hovernet"]
folds = [1]
seeds = [0]

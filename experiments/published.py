# Each method under its own published recipe (declared in the method's file), for numbers to set beside the papers'.
_base_ = ["_base_/matched.py"]

kind = "published"
methods = ["cellvta", "cellvit", "hovernet"]
folds = [1]
seeds = [0]

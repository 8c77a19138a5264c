# The claim on crops of real H&E, CoNSeP and MoNuSeg, which are not PanNuke; no published figure stands beside it.
#   make ablation EXPERIMENT=claim_real DATA_ROOT=/data/consep_monuseg
_base_ = ["claim.py"]

dataset = "pannuke@name=consep+monuseg"
seeds = [0, 1]

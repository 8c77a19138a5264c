# Settings of StarDist's decoding (also CPP-Net's), as experiments/postprocess.py has those of the HV watershed:
#   make run METHOD=cellvta@instances=stardist KEEP_MAPS=1
#   python -m benchmark postprocess --grid postprocess_stardist --run results/…
_base_ = ["main.py"]

# name -> fields of representations.stardist.StarSettings that replace the package's; the first is the reference
postprocess = {
    "published": {},
    "probability 0.3": dict(probability=0.3),
    "probability 0.4": dict(probability=0.4),
    "probability 0.6": dict(probability=0.6),
    "probability 0.7": dict(probability=0.7),
    "overlap 0.2": dict(overlap=0.2),
    "overlap 0.3": dict(overlap=0.3),
    "overlap 0.5": dict(overlap=0.5),
    "no border": dict(border=0),
}

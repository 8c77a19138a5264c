# What the watershed's settings cost and for whom, on maps that `make run … KEEP_MAPS=1` stored: nothing is trained.
#   make run METHOD=cellvta KEEP_MAPS=1
#   python -m benchmark postprocess --run results/synthetic/cellvta@small/fold1-seed0
_base_ = ["main.py"]

# name -> fields of postproc.watershed.HVSettings that replace the published ones; the first is the reference
postprocess = {
    "published": {},
    "no opening": dict(opening=1),
    "opening 3": dict(opening=3),
    "opening 7": dict(opening=7),
    "edge 0.3": dict(edge=0.3),
    "edge 0.5": dict(edge=0.5),
    "edge 0.6": dict(edge=0.6),
    "Sobel 5": dict(ksize=5),
    "Sobel 11": dict(ksize=11),
    "Sobel 31": dict(ksize=31),
    "markers >= 3 px": dict(object_size=3),
    "markers >= 30 px": dict(object_size=30),
    "components >= 3 px": dict(component_size=3),
    "components >= 30 px": dict(component_size=30),
    "opening 3, edge 0.5": dict(opening=3, edge=0.5),
    "no opening, edge 0.6": dict(opening=1, edge=0.6),
}

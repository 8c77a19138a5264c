# Settings of the decoding of Cellpose's flows, as experiments/postprocess.py has those of the HV watershed:
#   make run METHOD=cellvta@instances=flows KEEP_MAPS=1
#   python -m benchmark postprocess --grid postprocess_flows --run results/…
_base_ = ["main.py"]

# name -> fields of representations.flows.FlowSettings that replace the package's; the first is the reference
postprocess = {
    "published": {},
    "level -1": dict(level=-1.0),
    "level 1": dict(level=1.0),
    "50 steps": dict(steps=50),
    "100 steps": dict(steps=100),
    "400 steps": dict(steps=400),
    "any flow": dict(error=0.0),
    "error 0.8": dict(error=0.8),
    "pixels >= 0": dict(least=0),
    "pixels >= 30": dict(least=30),
}

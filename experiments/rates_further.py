# The same search as `rates`, for the arms of docs/claim.md that follow as far as computing time goes.
_base_ = ["rates.py"]

methods = [
    f"{arm}recipe.optimiser.lr={rate}"
    for rate in (5e-4, 1e-3, 2e-3, 4e-3)
    for arm in ("cellvit@", "cellvit@tune=lora,", "hovernet@")
]

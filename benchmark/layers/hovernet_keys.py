"""Keys of published HoVer-Net checkpoints to those of `methods.hovernet`."""

import re

from torch import Tensor

RULES = (
    (r"^conv0\./\.", "encoder.stem."),
    (r"^conv0\.bn\.", "encoder.stem_bn."),
    (r"^d([0-3])\.", r"encoder.stages.\1."),
    (r"^conv_bot\.", "encoder.bottleneck."),
    (r"^decoder\.(tp|np|hv)\.u([23])\.conva\.", r"branches.\1.up\2.enter."),
    (r"^decoder\.(tp|np|hv)\.u([23])\.convf\.", r"branches.\1.up\2.leave."),
    (r"^decoder\.(tp|np|hv)\.u([23])\.dense\.", r"branches.\1.up\2."),
    (r"^decoder\.(tp|np|hv)\.u1\.conva\.", r"branches.\1.up1."),
    (r"^decoder\.(tp|np|hv)\.u0\.bn\.", r"branches.\1.bn."),
    (r"^decoder\.(tp|np|hv)\.u0\.conv\.", r"branches.\1.head."),
    (r"\.blk_bna\.bn\.", ".out."),
    (r"\.preact(_bna)?/bn\.", ".preact."),
    (r"\.conv([12])/bn\.", r".bn\1."),
)


def adapt(state: dict) -> dict[str, Tensor]:
    """Rename the entries of a published checkpoint; entries already ours pass unchanged.

    A `desc` envelope and a `module.` prefix on all keys are removed; `upsample2x.unpool_mat`, a constant that
    repeats pixels, is dropped.
    """
    state = state.get("desc", state)
    if state and all(k.startswith("module.") for k in state):
        state = {k.removeprefix("module."): v for k, v in state.items()}
    return {_rename(k): v for k, v in state.items() if k != "upsample2x.unpool_mat"}


def _rename(key: str) -> str:
    for pattern, new in RULES:
        key = re.sub(pattern, new, key)
    return key

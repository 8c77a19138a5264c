"""Which resolutions count as one."""

SAME = 0.05  # relative difference of resolutions that is left as it is


def differs(mpp: float, seen: float) -> bool:
    """Whether images of `mpp` µm/px are resampled for a network that sees `seen` µm/px."""
    return abs(mpp / seen - 1) > SAME

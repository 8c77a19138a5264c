"""From a network's maps to nuclei, and from nuclei to the maps that a network learns."""

__all__ = ["HVSettings", "decode_hv", "measure"]


def __getattr__(name: str):
    # at first use: whoever needs one small module of this package does not wait for all of them
    if name in __all__:
        from benchmark.postproc import hv

        return getattr(hv, name)
    raise AttributeError(f"module 'benchmark.postproc' has no attribute '{name}'")

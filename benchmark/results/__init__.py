"""Runs on disk: every file of a run is written and read here alone."""

__all__ = ["Frames", "load"]


def __getattr__(name: str):
    # at first use: whoever needs one small module of this package does not wait for pandas
    if name in __all__:
        from benchmark.results import frames

        return getattr(frames, name)
    raise AttributeError(f"module 'benchmark.results' has no attribute '{name}'")

"""The setup that tests of the grid share."""

from benchmark.experiment.setup import Setup
from tests.support.tiny_data import TINY


def setup(results, cache, **changes):
    """Of cells of the main experiment on tiny data, at debug scale for one epoch, but for `changes`."""
    values = dict(dataset=TINY, data_root=None, preset="debug", experiment="main", results=results, cache=cache)
    values["overrides"] = (("epochs", 1),)
    return Setup(**(values | changes))

"""CellVTA and its rivals, trained and scored by one harness over one deformable-attention op."""

__version__ = "0.1.0"

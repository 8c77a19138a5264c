"""Engines that start cells: one file each. What a cell is, where it lies and whether it is due, they do not decide."""

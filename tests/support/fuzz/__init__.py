"""Damaged inputs: every one ends in a result or in one sentence."""

"""Scores of label images: one match per image, stored as records, from which every protocol computes.

Reads bottom up: runs (pixels to runs), outline, pairs, match, records, then panoptic, detection, overlap,
and protocols and sizes on top of them.
"""

"""Readers of anyone's label maps and nucleus outlines; nothing that is read is executed.

Reads bottom up: labelled (what every reader gives), type_names (foreign names to types),
then a file per family of formats, and collection: a folder or file as named images.
"""

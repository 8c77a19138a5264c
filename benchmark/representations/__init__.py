"""How the instances of an image are written as maps that a network learns, and read from them again.

One file each; `named.representation` has them by name. numpy, scipy and scikit-image only: they run in the worker
processes of the loader and of decoding. Their losses are torch and stand in `layers`.
"""

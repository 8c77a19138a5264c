"""Operators written for this benchmark: multi-scale deformable attention."""

from benchmark.ops.deform_attn import ms_deform_attn
from benchmark.ops.layer import MSDeformAttn
from benchmark.ops.selection import backends, default_backend

__all__ = ["MSDeformAttn", "backends", "default_backend", "ms_deform_attn"]

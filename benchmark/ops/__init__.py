"""Operators written for this benchmark: multi-scale deformable attention."""

from benchmark.ops.deform_attn import MSDeformAttn, backends, default_backend, ms_deform_attn

__all__ = ["MSDeformAttn", "backends", "default_backend", "ms_deform_attn"]

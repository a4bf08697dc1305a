"""A pool of experts that are packed in memory, one of them in the model."""

from metro_fast.experts.pool.pool import ExpertPool

__all__ = ["ExpertPool"]

"""Reference of `ops.unpack`: section 4 of docs/expert-format.md, by the stranger's decoder."""

from metro_fast.testing.expert_file import unpack

__all__ = ["unpack"]

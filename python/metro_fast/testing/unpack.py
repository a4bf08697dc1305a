"""Reference of `ops.unpack`: section 4 of docs/expert-format.md, as the stranger's decoder has it."""

from metro_fast.testing.expert_file import unpack

__all__ = ["unpack"]

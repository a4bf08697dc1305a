"""Searching by scores: how to mix experts for a task, and how far to compress one."""

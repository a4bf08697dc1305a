"""Merging and comparing experts as they are packed."""

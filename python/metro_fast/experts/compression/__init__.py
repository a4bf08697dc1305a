"""Compression: from an adapter or a task vector to a compressed expert."""

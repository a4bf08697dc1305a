"""From an adapter or a task vector to a compressed expert."""

"""From an expert back to a plain adapter."""

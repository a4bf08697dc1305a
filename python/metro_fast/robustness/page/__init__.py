"""The offline page of a report."""

"""Adapters of others: their folders, names, dtypes and scalings."""

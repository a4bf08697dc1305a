"""Adapters as other tools write them: their folders, names, dtypes, scalings and initial values."""

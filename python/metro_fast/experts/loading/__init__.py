"""Putting one expert, or several, into a model."""

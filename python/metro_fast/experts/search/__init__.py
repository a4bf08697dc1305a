"""Searches: few-shot composition, and tuning of compression."""

"""Searches over experts: few-shot composition, and tuning of compression."""

"""Experts on the Hugging Face Hub: their names, fetching, pushing and model cards."""

"""Experts on the Hugging Face Hub."""

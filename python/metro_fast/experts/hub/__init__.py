"""Experts on the Hugging Face Hub: names, downloads, model cards, pushing."""

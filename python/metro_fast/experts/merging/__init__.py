"""Merging several experts into one, and comparing them."""

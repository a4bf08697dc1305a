"""Compressed experts as the plain PEFT folders that other programs read."""

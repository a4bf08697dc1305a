"""The expert file: what it says of itself, and its bytes as tensors."""

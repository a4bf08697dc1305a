"""CUDA kernels: one Python function for each, and the code that launches them."""

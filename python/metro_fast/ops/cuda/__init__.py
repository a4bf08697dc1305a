"""CUDA kernels: launching them, one Python function a kernel."""

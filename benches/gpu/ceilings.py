"""The limits of a device, measured: a large copy and a large matrix product."""

import torch
from clock import median_of


def copy_bandwidth(device: torch.device, size: int = 1 << 30) -> float:
    """Bytes read plus bytes written per second by a device-to-device copy."""
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / median_of(lambda: target.copy_(source), device)


def product_rate(device: torch.device, size: int = 8192) -> float:
    """Floating-point operations per second of a bfloat16 matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / median_of(lambda: a @ b, device)

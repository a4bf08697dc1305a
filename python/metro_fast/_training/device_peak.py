"""The most floating-point operations that a device does in a second, published or measured."""

import functools
import time
from dataclasses import dataclass

import torch

PUBLISHED = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "B200": 2250e12,
}
"""Operations per second in bf16, dense, of the makers' data sheets, by a part of the name."""

SIZE = 1024
BEST_OF = 3


@dataclass(frozen=True)
class Peak:
    """The peak of one device.

    Attributes:
        flops: Operations per second.
        measured: Whether it was measured here, or is published.
    """

    flops: float
    measured: bool

    def __str__(self) -> str:
        source = "measured" if self.measured else "published"
        return f"{self.flops / 1e12:.3g} TFLOP/s {source}"


def device_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """Find the peak of a device: from the table in bf16, else by a product of matrices.

    Args:
        device: The device of the training.
        dtype: The dtype of its matrix products.

    Example:
        >>> device_peak(torch.device("cpu"), torch.float32).measured
        True
    """
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        for part, flops in PUBLISHED.items():
            if part in name:
                return Peak(flops, measured=False)
    return Peak(_measured(device, dtype, torch.get_num_threads()), measured=True)


@functools.cache
def _measured(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """The best of a few products; the number of threads is a key of the cache."""
    # Large on an accelerator, which a small product would not fill. Ones, since a draw would change
    # the random numbers of the training.
    size = SIZE if device.type == "cpu" else 8 * SIZE
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(BEST_OF + 1):  # the first one warms up
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for the device
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[1:])

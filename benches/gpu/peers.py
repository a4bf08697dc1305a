"""Other ways to draw tokens from logits."""

from collections.abc import Callable
from typing import Any

import torch


def softmax_multinomial(logits: torch.Tensor) -> torch.Tensor:
    """METRO-T0's own way: softmax in float32, then torch.multinomial."""
    return torch.multinomial(torch.softmax(logits.float(), -1), 1)


def gumbel(logits: torch.Tensor) -> torch.Tensor:
    """argmax of logits plus Gumbel noise, in float32."""
    noise = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
    return (logits.float() - noise.exponential_().log()).argmax(-1)


def triton_gumbel() -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The same fused into one Triton kernel, with one program per row; None without Triton."""
    try:
        import triton
        import triton.language as tl
    except ImportError:
        return None

    @triton.jit
    def kernel(logits: Any, out: Any, seed: Any, vocabulary: Any, BLOCK: tl.constexpr):
        row = tl.program_id(0)
        best = -float("inf")
        where = 0
        for start in range(0, vocabulary, BLOCK):
            column = start + tl.arange(0, BLOCK)
            inside = column < vocabulary
            at = row.to(tl.int64) * vocabulary + column
            value = tl.load(logits + at, mask=inside, other=-float("inf")).to(tl.float32)
            uniform = tl.maximum(tl.rand(seed, at), 1e-10)
            noisy = value - tl.log(-tl.log(uniform))
            noisy = tl.where(inside, noisy, -float("inf"))
            high, index = tl.max(noisy, axis=0, return_indices=True)
            where = tl.where(high > best, start + index, where)
            best = tl.maximum(high, best)
        tl.store(out + row, where)

    def draw(logits: torch.Tensor) -> torch.Tensor:
        out = torch.empty(logits.shape[0], dtype=torch.int32, device=logits.device)
        kernel[(logits.shape[0],)](logits, out, 7, logits.shape[1], BLOCK=4096, num_warps=8)
        return out

    return draw

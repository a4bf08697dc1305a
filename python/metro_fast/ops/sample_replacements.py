"""Replacement tokens, drawn from the auxiliary model's logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from metro_fast import _core
from metro_fast.ops.arrays import (
    Array,
    ArrayT,
    give,
    integers,
    is_tensor,
    on_cuda,
    refuse_shared,
    view,
    writable,
)
from metro_fast.ops.draws import check_counter, resolve_threads

_GRAIN = 1 << 16
"""Number of logits that one thread weighs in about 0.2 ms."""


def sample_replacements(
    logits: ArrayT,
    *,
    sample_ids: Array | Sequence[int] | None = None,
    positions: Array | Sequence[int] | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    forbidden: Array | Sequence[int] | None = None,
    excluded: Array | Sequence[int] | None = None,
    bfloat16: bool = False,
    seed: int = 0,
    epoch: int = 0,
    num_threads: int | None = None,
    out: ArrayT | None = None,
) -> ArrayT:
    """Draw one token per row from `softmax(logits / temperature)`.

    A logit's distance `d = (max - logit) * f32(log2(e) / temperature)` from the greatest one is
    rounded in f32 and cut to 25 bits after the point, and all that follows are integers. A token is
    proposed in proportion to the power of two `2^-floor(d)`: it is the first whose inclusive sum
    exceeds `floor(u * total / 2^64)` for a 64-bit uniform u. It is accepted with probability
    `2^-frac(d)`, which is above one half; else there is another proposal.
    `metro_fast.testing.sample_replacements` is the full definition. The sums are exact, so that
    equal logits give equal tokens for any code path, tiling, number of threads and device. The
    total variation from the softmax is at most 2^-20 for up to 2^18 tokens. METRO (arXiv
    2305.12567) and ELECTRA sample the whole vocabulary at temperature 1.

    The random numbers of row r are a function of (seed, epoch, `sample_ids[r]`, `positions[r]`).

    Args:
        logits: float32, float16 or bfloat16 [R, V], V at most 2^23, contiguous. A token with logit
            -inf is never drawn. Must not be changed during the call. If it is a CUDA tensor, so is
            the result, and all other arrays must be on its device.
        sample_ids: int [R], 0 or more; the index of the row by default.
        positions: int [R], 0 to 2^32 - 1, the place of the row in its sample; 0 by default. Rows
            with equal sample ids need different positions, or they share their uniform.
        temperature: 1e-6 to 1e6.
        top_k: Number of likeliest tokens to draw from, 1 or more; None for all. Tokens as likely as
            the last of them may be drawn too.
        forbidden: int [F], tokens that no row draws, such as the sentinels; their logits are not
            looked at.
        excluded: int [R], a token for each row that it does not draw, such as the original. The
            likeliest are chosen among the tokens that are neither forbidden nor excluded.
        bfloat16: Whether uint16 numpy logits are the bits of bfloat16, for which numpy lacks a
            type.
        seed: 0 to 2^63 - 1.
        epoch: 0 to 2^63 - 1.
        num_threads: Number of threads; None for as many as are worth starting.
        out: int64 [R] to write to and return.

    Returns:
        int64 [R] token ids, of the kind of `logits`.

    Raises:
        MetroFastError: If a value is outside its domain, or a row holds NaN, +inf, or only -inf
            (the message names row and column).
        TypeError: If an array has the wrong dtype or number of dimensions, or the logits are not
            contiguous.

    Example:
        >>> import numpy as np
        >>> sample_replacements(np.array([[0.0, -np.inf], [-np.inf, 0.0]], np.float32)).tolist()
        [0, 1]
    """
    if on_cuda(logits):
        options = (sample_ids, positions, temperature, top_k, forbidden, excluded)
        drawn: ArrayT = _on_cuda(logits, options, seed, epoch, out)
        return drawn
    tensor = is_tensor(logits)
    array, bits = _typed(logits, bfloat16)
    if array.ndim != 2 or not array.flags.c_contiguous:
        layout = "contiguous" if array.flags.c_contiguous else "not contiguous"
        raise TypeError(
            f"logits has shape {array.shape} and is {layout}, "
            "expected contiguous [rows, vocabulary]"
        )
    target = None if out is None else writable("out", out, np.int64, 1)
    by_row = {"sample_ids": sample_ids, "positions": positions, "excluded": excluded}
    refuse_shared({"out": target}, {"logits": array, "forbidden": forbidden, **by_row})
    result = _core.sample_replacements(
        array,
        *(None if values is None else integers(name, values) for name, values in by_row.items()),
        bits=bits,
        temperature=temperature,
        top_k=None if top_k is None else check_counter("top_k", top_k),
        forbidden=None if forbidden is None else integers("forbidden", forbidden),
        seed=check_counter("seed", seed),
        epoch=check_counter("epoch", epoch),
        num_threads=resolve_threads(num_threads, array.size, _GRAIN),
        out=target,
    )
    if out is not None:
        return out
    tokens: ArrayT = give(result, tensor=tensor)
    return tokens


def _on_cuda(logits: Any, options: tuple[Any, ...], seed: int, epoch: int, out: Any) -> Any:
    import torch

    from metro_fast.ops.cuda import kernels

    counters = [check_counter("seed", seed), check_counter("epoch", epoch)]
    pair = torch.tensor(counters, device=logits.device)
    given: list[Any] = [
        torch.tensor(each, device=logits.device) if isinstance(each, (list, tuple)) else each
        for each in options
    ]
    drawn = kernels.sample_replacements(logits.detach(), pair, *given)
    return drawn if out is None else out.copy_(drawn)


def _typed(logits: Array, bfloat16: bool) -> tuple[npt.NDArray[Any], str]:
    """The logits as the native module reads them, and the name of their format."""
    array = view("logits", logits, bits=True)
    name = str(getattr(logits, "dtype", "")).removeprefix("torch.")
    if name == "bfloat16" or (bfloat16 and name == "uint16"):
        return array, "bfloat16"
    if name == "float16":
        return array.view(np.uint16), "float16"
    if name == "float32":
        return array, "float32"
    raise TypeError(
        f"logits is an array of {name}, expected float32, float16 or bfloat16 "
        "(uint16 with bfloat16=True)"
    )

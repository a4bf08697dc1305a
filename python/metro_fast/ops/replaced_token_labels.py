"""Input and labels of replaced-token detection."""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple

import numpy as np

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import (
    Array,
    ArrayT,
    contiguous,
    give,
    integers,
    is_tensor,
    on_cuda,
    view,
    writable_pair,
)
from metro_fast.ops.draws import check_counter, resolve_threads

_GRAIN = 1 << 19
"""Number of tokens that one thread labels in about 0.2 ms."""


class ReplacedBatch(NamedTuple, Generic[ArrayT]):
    """Input of the main model, and the labels of its detection head.

    Attributes:
        input_ids: int64, of the shape of `original`: samples at the masked positions, the pad id at
            padding.
        labels: int8, of the same shape: 1 if replaced, 0 if original, -100 at padding.
    """

    input_ids: ArrayT
    labels: ArrayT


def replaced_token_labels(
    original: ArrayT,
    sampled: Array | Sequence[int],
    masked_positions: Array | Sequence[int],
    *,
    pad_token_id: int = 0,
    num_threads: int | None = None,
    out: tuple[ArrayT, ArrayT] | None = None,
) -> ReplacedBatch[ArrayT]:
    """Put sampled tokens into the original, and label the tokens that this changes.

    A sample that equals the original counts as original, as in METRO (arXiv 2305.12567) and
    ELECTRA (arXiv 2003.10555).

    Args:
        original: int64 [B, L] (or any shape): the original ids, negative at padding, such as the
            `labels` of `mask_tokens`. If it is a CUDA tensor, the other arguments must be CUDA
            tensors on its device, and the results are.
        sampled: int [M]: ids at the masked positions.
        masked_positions: int [M]: flat indices into `original`, strictly ascending.
        pad_token_id: Id of the padding in `input_ids`.
        num_threads: Number of threads; None for as many as are worth starting.
        out: int64 and int8 arrays of the shape of `original`; they are returned.

    Returns:
        Batch of the kind of `original`: numpy arrays or torch tensors.

    Raises:
        MetroFastError: If sizes do not fit, or a position is out of range, out of order or at
            padding.
        TypeError: If an array has the wrong dtype.

    Example:
        >>> import numpy as np
        >>> batch = replaced_token_labels(np.array([[7, 8, 9, -100]]), [7, 5], [0, 2])
        >>> batch.input_ids.tolist(), batch.labels.tolist()
        ([[7, 8, 5, 0]], [[0, 0, 1, -100]])
    """
    if on_cuda(original):
        from metro_fast.ops.cuda import kernels

        run: Any = kernels.replaced_token_labels
        pair = run(original, sampled, masked_positions, pad_token_id)
        if out is not None:
            targets: Any = out
            pair = [to.copy_(one) for to, one in zip(targets, pair, strict=True)]
        return ReplacedBatch(*pair)
    tensor = is_tensor(original)
    array = contiguous(view("original", original))
    if array.dtype != np.int64:
        raise TypeError(f"original is an array of {array.dtype}, expected int64")
    read = {"original": array, "sampled": sampled, "masked_positions": masked_positions}
    inputs, labels = writable_pair(out, (np.int64, np.int8), array.ndim, read)
    if inputs is None or labels is None:
        inputs, labels = np.empty(array.shape, np.int64), np.empty(array.shape, np.int8)
    elif inputs.shape != array.shape or labels.shape != array.shape:
        raise MetroFastError(
            f"out has shapes {inputs.shape} and {labels.shape}, "
            f"expected that of original, {array.shape}, twice"
        )
    _core.replaced_token_labels(
        array,
        integers("masked_positions", masked_positions, copy=False),
        integers("sampled", sampled, copy=False),
        pad_token_id=check_counter("pad_token_id", pad_token_id),
        num_threads=resolve_threads(num_threads, array.size, _GRAIN),
        input_ids=inputs,
        labels=labels,
    )
    if out is not None:
        return ReplacedBatch(*out)
    return ReplacedBatch(give(inputs, tensor=tensor), give(labels, tensor=tensor))

"""Refuse a METRO batch that does not fit, before it gives a wrong loss."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

IGNORED = -100


def check_batch(
    *,
    vocab_size: int,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    epoch: Tensor | int,
    masked_positions: Tensor,
    sample_ids: Tensor,
    num_masked: Tensor | int | None,
    num_labels: Tensor | int | None,
    num_encoder_tokens: Tensor | int | None,
) -> None:
    """Check dtypes and shapes on every device, and values on the CPU.

    Values on a GPU are not checked, because the check would wait for the GPU; nor in a compiled
    step, where it would break the graph.

    Args:
        vocab_size: Ids must be in [0, vocab_size).
        input_ids: int64 [B, L], the auxiliary model's input.
        attention_mask: int64 or bool [B, L], 1 at tokens, 0 at padding on the right.
        labels: int64 [B, L], original ids, -100 at padding.
        epoch: A whole number, or int64 with one element.
        masked_positions: int64 [M], flat positions of B*L, ascending.
        sample_ids: int64 [B].
        num_masked: The collator's count of masked positions, M; None is not checked.
        num_labels: The collator's count of labels that are not -100, or None.
        num_encoder_tokens: The collator's count of ones in the attention mask, or None.

    Raises:
        TypeError: If a dtype is wrong.
        MetroFastError: If a shape, id, position or count is wrong.
    """
    named = {
        "input_ids": input_ids,
        "labels": labels,
        "masked_positions": masked_positions,
        "sample_ids": sample_ids,
    }
    _check_tensors(named, attention_mask)
    _check_epoch(epoch)
    if input_ids.device.type != "cpu" or torch.compiler.is_compiling():
        return
    _check_values(vocab_size, input_ids, attention_mask, labels, masked_positions, sample_ids)
    for name, given, found in (
        ("num_masked", num_masked, masked_positions.numel()),
        ("num_labels", num_labels, int((labels != IGNORED).sum())),
        ("num_encoder_tokens", num_encoder_tokens, int(attention_mask.sum())),
    ):
        if given is not None and int(given) != found:
            raise MetroFastError(
                f"the batch says {name}={int(given)}, but its tensors hold {found}: the losses "
                "would be divided by the wrong count"
            )


def _check_tensors(named: Mapping[str, Tensor], attention_mask: Tensor) -> None:
    """Check the dtypes and shapes, which every device knows without waiting."""
    input_ids, labels = named["input_ids"], named["labels"]
    masked_positions, sample_ids = named["masked_positions"], named["sample_ids"]
    for name, tensor in named.items():
        if tensor.dtype != torch.int64:
            raise TypeError(f"{name} is {tensor.dtype}, expected torch.int64")
    if attention_mask.dtype not in (torch.int64, torch.bool):
        raise TypeError(f"attention_mask is {attention_mask.dtype}, expected torch.int64 or bool")
    if input_ids.ndim != 2 or not input_ids.numel():
        raise MetroFastError(
            f"input_ids has shape {tuple(input_ids.shape)}, expected [B, L] with B, L >= 1"
        )
    for name, tensor in (("labels", labels), ("attention_mask", attention_mask)):
        if tensor.shape != input_ids.shape:
            raise MetroFastError(
                f"{name} has shape {tuple(tensor.shape)}, expected that of input_ids, "
                f"{tuple(input_ids.shape)}"
            )
    if masked_positions.ndim != 1:
        raise MetroFastError(
            f"masked_positions has shape {tuple(masked_positions.shape)}, expected [M]: flat "
            "positions of B*L"
        )
    if sample_ids.shape != input_ids.shape[:1]:
        raise MetroFastError(
            f"sample_ids has shape {tuple(sample_ids.shape)}, expected [{input_ids.shape[0]}]"
        )


def _check_epoch(epoch: Tensor | int) -> None:
    if isinstance(epoch, Tensor):
        if epoch.dtype != torch.int64:
            raise TypeError(f"epoch is {epoch.dtype}, expected torch.int64")
        if epoch.numel() != 1:
            raise MetroFastError(
                f"epoch has shape {tuple(epoch.shape)}, expected one number for the whole batch"
            )
    elif not isinstance(epoch, int) or isinstance(epoch, bool):
        raise TypeError(f"epoch is {quoted(epoch)}, expected an integer")


def _check_values(
    vocab_size: int,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    masked_positions: Tensor,
    sample_ids: Tensor,
) -> None:
    low, high = int(input_ids.min()), int(input_ids.max())
    if low < 0 or high >= vocab_size:
        raise MetroFastError(
            f"input_ids span [{low}, {high}], outside the vocabulary [0, {vocab_size})"
        )
    wrong = ((labels < 0) & (labels != IGNORED)) | (labels >= vocab_size)
    if wrong.any():
        raise MetroFastError(
            f"label {int(labels[wrong][0])} is outside the vocabulary [0, {vocab_size}) "
            f"and not {IGNORED}"
        )
    _check_mask(attention_mask)
    if not torch.equal(labels != IGNORED, attention_mask.bool()):
        raise MetroFastError(
            "labels are -100 at other positions than those where attention_mask is 0: labels must "
            "hold the original id of every token"
        )
    if int(sample_ids.min()) < 0:
        raise MetroFastError(f"sample id {int(sample_ids.min())} is negative, expected at least 0")
    if not masked_positions.numel():
        return
    low, high = int(masked_positions.min()), int(masked_positions.max())
    if low < 0 or high >= input_ids.numel():
        raise MetroFastError(
            f"masked_positions span [{low}, {high}], outside the batch's "
            f"{input_ids.numel()} positions"
        )
    if not bool((masked_positions.diff() > 0).all()):
        raise MetroFastError("masked_positions must be ascending, and none may be given twice")
    if bool((labels.flatten()[masked_positions] == IGNORED).any()):
        raise MetroFastError("masked_positions point at padding: mask tokens only")


def _check_mask(attention_mask: Tensor) -> None:
    mask = attention_mask.long()
    other = mask[(mask != 0) & (mask != 1)]
    if other.numel():
        raise MetroFastError(f"attention_mask holds {int(other[0])}, expected 0 or 1")
    if bool((mask.diff(dim=1) > 0).any()):
        row = int((mask.diff(dim=1) > 0).any(1).nonzero()[0])
        raise MetroFastError(
            f"row {row} of attention_mask has padding before a token: the decoder needs padding "
            "on the right, so set the tokenizer's padding_side to 'right'"
        )

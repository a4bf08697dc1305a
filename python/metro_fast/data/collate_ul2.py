"""Batches for UL2's mixture of denoisers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from metro_fast.data.collate_spans import DataCollatorForSpanCorruption
from metro_fast.data.rows import Rows
from metro_fast.errors import MetroFastError
from metro_fast.ops import Denoiser, ul2_denoisers
from metro_fast.ops.draws import check_counter

MODE_TOKENS = ("[NLU]", "[NLG]", "[S2S]")


class DataCollatorForUL2(DataCollatorForSpanCorruption):
    """Gives every row one denoiser of a mixture: UL2's seven (arXiv 2205.05131) by default.

    The denoiser of a row is a function of (seed, epoch, sample id), so that it does not depend on
    the batch. Batches are those of `DataCollatorForSpanCorruption`; their `denoisers` hold the
    index of each row's denoiser.

    Args:
        tokenizer: Supplies the ids that are not given, and those of the mode tokens.
        denoisers: Tasks with their weights, which may be 0; UL2's by default.
        mode_tokens: Tokens at the start of the inputs of R, X and S, which the tokenizer must have
            unless `denoisers` is given; None for inputs without mode tokens.
        schedule: Weights by step, as pairs (first step, weights). The first pair is that of step 0,
            and each has one weight per denoiser. They replace the denoisers' own weights.
        schedule_batch_size: Number of rows in one step over all ranks, by which the schedule counts
            its steps.
        **options: Arguments of `DataCollatorForSpanCorruption`.

    Raises:
        MetroFastError: If an argument of `DataCollatorForSpanCorruption` is refused, the tokenizer
            lacks a mode token, or the schedule does not start at step 0 or does not ascend.

    Example:
        >>> collator = DataCollatorForUL2(
        ...     mode_tokens=None, sentinel_first=99, eos_token_id=1, pad_token_id=0
        ... )
        >>> batch = collator(
        ...     [{"input_ids": list(range(100, 200)), "sample_id": i} for i in range(3)]
        ... )
        >>> batch["denoisers"].shape
        torch.Size([3])
    """

    def __init__(
        self,
        tokenizer: Any = None,
        *,
        denoisers: Sequence[Denoiser] | None = None,
        mode_tokens: tuple[str, str, str] | None = MODE_TOKENS,
        schedule: Sequence[tuple[int, Sequence[float]]] | None = None,
        schedule_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        if denoisers is None:
            r, x, s = (
                (None, None, None)
                if mode_tokens is None
                else mode_token_ids(tokenizer, mode_tokens)
            )
            denoisers = ul2_denoisers(r_token_id=r, x_token_id=x, s_token_id=s)
        super().__init__(tokenizer, denoisers=tuple(denoisers), **options)
        self.starts = None
        if (schedule is None) != (schedule_batch_size is None):
            raise MetroFastError(
                "schedule and schedule_batch_size belong together: give both, or neither"
            )
        if schedule is not None and schedule_batch_size is not None:
            if check_counter("schedule_batch_size", schedule_batch_size) == 0:
                raise MetroFastError("schedule_batch_size is 0, expected 1 or more")
            steps = [check_counter("schedule", step) for step, _ in schedule]
            if not steps or steps[0] != 0 or steps != sorted(set(steps)):
                raise MetroFastError(
                    f"schedule has steps {steps}, expected ascending steps from 0 on"
                )
            self.starts = np.array(steps, np.int64) * schedule_batch_size
            weights = [weights for _, weights in schedule]
            self.corruption = replace(self.corruption, weights=weights)
            self._native = self._make_options()

    def _phases(self, rows: Rows) -> Any:
        if self.starts is None:
            return None
        if rows.positions is None:
            raise MetroFastError(
                "the rows have no position, but the schedule depends on where in training a row "
                "is: take the rows from a TokenCorpus, or add an int column position, counted over "
                "all epochs"
            )
        return np.searchsorted(self.starts, rows.positions, side="right") - 1


def mode_token_ids(tokenizer: Any, tokens: tuple[str, str, str] = MODE_TOKENS) -> list[int]:
    """The ids of UL2's mode tokens: those of R, X and S.

    Raises:
        MetroFastError: If there is not a tokenizer, or it lacks one of them.
    """
    if tokenizer is None:
        raise MetroFastError(
            f"mode_tokens is {tokens}, but there is no tokenizer to look them up in: give a "
            "tokenizer, mode_tokens=None, or denoisers with a prefix_token_id"
        )
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in tokens if token not in vocabulary]
    if missing:
        raise MetroFastError(
            f"the tokenizer has no token {missing[0]}: add it with "
            f"tokenizer.add_tokens({missing}, special_tokens=True) and resize the model's "
            "embeddings, name other tokens in mode_tokens, or give mode_tokens=None"
        )
    return [vocabulary[token] for token in tokens]

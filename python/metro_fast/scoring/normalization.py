"""From the log-likelihoods of choices to their scores."""

from collections.abc import Sequence

from metro_fast.errors import MetroFastError
from metro_fast.scoring.protocol import Normalization

__all__ = ["normalized"]


def normalized(
    sums: Sequence[float],
    normalization: Normalization,
    *,
    texts: Sequence[str],
    token_counts: Sequence[int],
    unconditional: Sequence[float] | None = None,
) -> tuple[float, ...]:
    """Normalize the log-likelihoods of the choices of one prompt.

    `char`, `byte` and `pmi` are `acc_norm`, `acc_bytes` and `acc_mutual_info` of lm-eval
    (lm_eval/api/task.py).

    Args:
        sums: Log-likelihood of each choice, in nats.
        normalization: See `Protocol.normalization`.
        texts: The choices.
        token_counts: Number of scored tokens of each choice.
        unconditional: Log-likelihood of each choice without an input; only for `pmi`.

    Returns:
        One score per choice.

    Raises:
        MetroFastError: If `pmi` lacks the unconditional log-likelihoods.

    Example:
        >>> normalized([-2.0, -6.0], "char", texts=["no", "maybe?"], token_counts=[1, 2])
        (-1.0, -1.0)
    """
    if normalization == "sum":
        return tuple(sums)
    if normalization == "pmi":
        if unconditional is None:
            raise MetroFastError("pmi needs the log-likelihoods of the choices without an input")
        return tuple(s - u for s, u in zip(sums, unconditional, strict=True))
    lengths = {
        "mean": list(token_counts),
        "char": [len(text) for text in texts],
        "byte": [len(text.encode()) for text in texts],
    }[normalization]
    return tuple(s / n for s, n in zip(sums, lengths, strict=True))

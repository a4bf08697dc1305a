"""The epoch for a stock Trainer."""

from typing import Any, Protocol

from metro_fast._extras import require

TrainerCallback: Any = require("transformers", "train").TrainerCallback


class _HasEpoch(Protocol):
    def set_epoch(self, epoch: int) -> None: ...


class EpochCallback(TrainerCallback):  # type: ignore[misc]
    """Sets the epoch of collators and corpora, which a stock `transformers.Trainer` does not.

    Args:
        targets: Objects with `set_epoch` whose workers read an `EpochCell`.

    Example:
        >>> trainer = Trainer(
        ...     ..., data_collator=collator, callbacks=[EpochCallback(collator)]
        ... )  # doctest: +SKIP
    """

    def __init__(self, *targets: _HasEpoch) -> None:
        self._targets = targets

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the epoch that begins. A resumed run begins in the middle of an epoch."""
        for target in self._targets:
            target.set_epoch(int(state.epoch or 0))

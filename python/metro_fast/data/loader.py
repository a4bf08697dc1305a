"""Batches of a corpus for a plain training loop, which can stop and go on at any step."""

from collections.abc import Iterator
from typing import Any

from metro_fast._extras import require
from metro_fast.data.collator import Collator
from metro_fast.data.corpus import TokenCorpus
from metro_fast.data.steps import Steps
from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter

_OURS = {
    "shuffle": "give shuffle=True to the TokenCorpus",
    "sampler": "the corpus has the order",
    "batch_sampler": "the loader makes the batches",
}


class CorpusLoader:
    """A torch DataLoader over epoch after epoch of a `TokenCorpus`, with a state.

    Step s of an epoch covers the indices [s * batch_size, (s + 1) * batch_size), of which each rank
    takes one contiguous share: the rows of a step are the same for any number of ranks, and of
    workers. The loader sets the epoch of the corpus and its collator. The state counts batches
    that were handed out, so what workers have prefetched is not lost. One iteration at a time: a
    new one, or a loaded state, ends the one before.

    Args:
        corpus: The corpus. Give it shuffle=True for an order of its own in every epoch.
        batch_size: Rows of a step, over all ranks.
        rank: Which share of every step this process takes.
        world_size: Number of shares; divides `batch_size`.
        epochs: Epochs after which an iteration ends; None to go on for ever.
        drop_last: Leave out a last step of an epoch that is shorter.
        num_workers: Worker processes.
        **options: Further options of `torch.utils.data.DataLoader`. `collate_fn` is the corpus' own
            collator where it has one; else torch's own, which stacks blocks of equal length.

    Raises:
        MetroFastError: If sizes do not fit each other, or an option is not for the caller.
        MissingExtraError: If torch is not installed.

    Example:
        >>> import tempfile
        >>> from metro_fast.data import write_corpus
        >>> folder = tempfile.mkdtemp()
        >>> write_corpus(folder, [list(range(12))])
        >>> loader = CorpusLoader(TokenCorpus(folder, block_size=2), batch_size=2)
        >>> batches = iter(loader)
        >>> next(batches)["input_ids"].tolist()
        [[0, 1], [2, 3]]
        >>> state = loader.state_dict()
        >>> again = CorpusLoader(TokenCorpus(folder, block_size=2), batch_size=2)
        >>> again.load_state_dict(state)
        >>> next(iter(again))["input_ids"].tolist() == next(batches)["input_ids"].tolist()
        True
    """

    def __init__(
        self,
        corpus: TokenCorpus,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        epochs: int | None = None,
        drop_last: bool = True,
        num_workers: int = 0,
        **options: Any,
    ) -> None:
        for name, mend in _OURS.items():
            if name in options:
                raise MetroFastError(f"{name} is {options[name]!r}, expected none: {mend}")
        if epochs is not None:
            check_counter("epochs", epochs)
        self.corpus = corpus
        self.epochs = epochs
        self._steps = Steps(len(corpus), batch_size, rank, world_size, drop_last)
        self._epoch = 0
        self._running: object = None
        torch = require("torch", "torch")
        options.setdefault("collate_fn", corpus.collator)
        self._collator = options["collate_fn"]
        # A DataLoader draws a number for its workers at every epoch: not from the stream that a
        # model's dropout is drawn from, which would differ after a resumption.
        options.setdefault("generator", torch.Generator())
        self._loader = require("torch.utils.data", "torch").DataLoader(
            corpus, batch_sampler=self._steps, num_workers=num_workers, **options
        )

    def __len__(self) -> int:
        """Steps of an epoch."""
        return self._steps.count

    def __iter__(self) -> Iterator[Any]:
        """The batches from the state on, epoch after epoch.

        Raises:
            MetroFastError: If another iteration was begun, or a state loaded, while this one runs.
        """
        self._running = object()
        return self._batches(self._running)

    def _batches(self, running: object) -> Iterator[Any]:
        while self.epochs is None or self._epoch < self.epochs:
            # Workers read the epoch as they make a batch. Those of the epoch before are all here by
            # now, so the new one meets none of them.
            self.corpus.set_epoch(self._epoch)
            if isinstance(self._collator, Collator):
                self._collator.set_epoch(self._epoch)
            for batch in self._loader:
                self._steps.first += 1
                if self._steps.first == self._steps.count:
                    self._steps.first = 0
                    self._epoch += 1
                yield batch
                if self._running is not running:
                    raise MetroFastError(
                        "the loader was iterated again, or given a state, while an iteration ran: "
                        "expected one at a time; drop the iterator and call iter(loader)"
                    )

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch stands, and what it was counted with: integers, strings, booleans.

        `position` counts the rows of the epoch, over all ranks.
        """
        position = self._steps.first * self._steps.batch_size
        return {"epoch": self._epoch, "position": position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at the batch after the last that was handed out, with any ranks and workers.

        Raises:
            MetroFastError: If the state is of another corpus, batch size or seed, or outside it.
        """
        for name, value in self._identity().items():
            if name not in state or state[name] != value:
                raise MetroFastError(
                    f"the state was saved with {name} {state.get(name)!r}, but this loader has "
                    f"{value!r}: its position would mean other rows; make the two equal"
                )
        epoch = check_counter("epoch of the state", state.get("epoch", -1))
        position = check_counter("position of the state", state.get("position", -1))
        first, rest = divmod(position, self._steps.batch_size)
        if rest or first >= self._steps.count:
            raise MetroFastError(
                f"position of the state is {position}, expected a multiple of batch_size "
                f"{self._steps.batch_size} below the {self._steps.count} steps of an epoch"
            )
        self._epoch, self._steps.first = epoch, first
        self._running = None

    def _identity(self) -> dict[str, Any]:
        """What a position depends on."""
        corpus = self.corpus
        return {
            "seed": corpus.seed,
            "collator_seed": getattr(self._collator, "seed", None),
            "shuffle": corpus.shuffle,
            "batch_size": self._steps.batch_size,
            "drop_last": self._steps.drop_last,
            "blocks": corpus.blocks,
            "block_size": corpus.block_size,
            "num_blocks": len(corpus),
            "num_tokens": corpus.num_tokens,
            "num_documents": corpus.num_documents,
        }

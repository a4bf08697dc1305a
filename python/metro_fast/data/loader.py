"""Batches of a corpus for a plain training loop, which can stop and resume at any step."""

from collections.abc import Iterator
from typing import Any

from metro_fast._extras import require
from metro_fast._shown import quoted
from metro_fast.data.collator import Collator
from metro_fast.data.corpus import TokenCorpus
from metro_fast.data.process_share import share_of_process
from metro_fast.data.steps import Steps
from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter

_OURS = {
    "shuffle": "give shuffle=True to the TokenCorpus",
    "sampler": "the corpus determines the order",
    "batch_sampler": "the loader makes the batches",
}


class CorpusLoader:
    """A torch DataLoader over the epochs of a `TokenCorpus`, whose state can be saved and loaded.

    Step s of an epoch covers the indices [s * batch_size, (s + 1) * batch_size), of which each rank
    takes one contiguous share. The rows of a step are the same for any number of ranks and of
    workers. The loader sets the epoch of the corpus and of its collator. The state counts the
    batches that the caller has received, so batches that workers have prefetched are not lost.
    There can be one iteration at a time: a new one, or a loaded state, ends the one before.

    Args:
        corpus: The corpus. Give it shuffle=True for a new order in every epoch.
        batch_size: Number of rows in a step, over all ranks.
        rank: Index of the share of every step that this process takes; None for the process's rank
            in torch's process group, or 0 without a group.
        world_size: Number of shares, which divides `batch_size`; None for the size of the group.
        epochs: Number of epochs after which an iteration ends; None for no end.
        drop_last: Whether to leave out the last step of an epoch if it is shorter.
        num_workers: Number of worker processes.
        **options: Further options of `torch.utils.data.DataLoader`. `collate_fn` is the collator of
            the corpus if it has one; else torch's own, which stacks blocks of equal length.

    Raises:
        MetroFastError: If sizes do not fit each other, an option belongs to the loader itself, or a
            launcher has started several processes that have not joined a process group.
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
        rank: int | None = None,
        world_size: int | None = None,
        epochs: int | None = None,
        drop_last: bool = True,
        num_workers: int = 0,
        **options: Any,
    ) -> None:
        for name, advice in _OURS.items():
            if name in options:
                raise MetroFastError(f"{name} is {quoted(options[name])}, expected none: {advice}")
        if epochs is not None:
            check_counter("epochs", epochs)
        self.corpus = corpus
        self.epochs = epochs
        torch = require("torch", "torch")
        share = share_of_process(torch, rank, world_size)
        self._steps = Steps(len(corpus), batch_size, *share, drop_last)
        self._epoch = 0
        self._running: object = None
        options.setdefault("collate_fn", corpus.collator)
        self._collator = options["collate_fn"]
        # A DataLoader draws a number for its workers in every epoch. If it came from the stream of
        # a model's dropout, that stream would differ after a resumption.
        options.setdefault("generator", torch.Generator())
        self._loader = require("torch.utils.data", "torch").DataLoader(
            corpus, batch_sampler=self._steps, num_workers=num_workers, **options
        )

    def __len__(self) -> int:
        """Number of steps in an epoch."""
        return self._steps.count

    def __iter__(self) -> Iterator[Any]:
        """The batches from the current state on, epoch after epoch.

        Raises:
            MetroFastError: If another iteration begins, or a state is loaded, while this one runs.
        """
        self._running = object()
        return self._batches(self._running)

    def _batches(self, running: object) -> Iterator[Any]:
        while self.epochs is None or self._epoch < self.epochs:
            # Workers read the epoch when they make a batch. All batches of the epoch before have
            # arrived by now, so none of them can see the new epoch.
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
                        "the loader was iterated again, or a state was loaded, during an "
                        "iteration, expected one at a time: drop this iterator and call "
                        "iter(loader)"
                    )

    def state_dict(self) -> dict[str, Any]:
        """The position of the next batch, and the settings on which it depends, as plain JSON.

        `position` counts the rows of the epoch, over all ranks.
        """
        position = self._steps.first * self._steps.batch_size
        return {"epoch": self._epoch, "position": position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume after the last batch that was received, with any number of ranks and workers.

        Raises:
            MetroFastError: If the state is from another corpus, batch size or seed, or is outside
                the corpus.
        """
        for name, value in self._identity().items():
            if name not in state or state[name] != value:
                raise MetroFastError(
                    f"the state was saved with {name} {quoted(state.get(name))}, but this loader "
                    "has "
                    f"{quoted(value)}, so its position would refer to other rows: make the two "
                    "equal"
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

    def __repr__(self) -> str:
        steps = self._steps
        return (
            f"CorpusLoader({self.corpus!r}, batch_size={steps.batch_size}, rank={steps.rank} of "
            f"{steps.world_size}: step {steps.first} of {steps.count}, epoch {self._epoch})"
        )

    def _identity(self) -> dict[str, Any]:
        """The settings on which a position depends."""
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

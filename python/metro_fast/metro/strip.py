"""A few rows of a run, token by token: original, mask, draw, and what the detector thinks."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState

from metro_fast._atomic import write_atomically
from metro_fast._ranges import check_at_least
from metro_fast.errors import MetroFastError
from metro_fast.metro.modeling_outputs import MetroOutput
from metro_fast.metro.strip_page import strip_page
from metro_fast.metro.strip_text import StripRow, StripToken, strip_text

KEPT = 20
"""Number of steps that the page keeps, the newest first."""
NEEDED = ("input_ids", "attention_mask", "labels", "masked_positions", "sample_ids", "epoch")


def strip_rows(
    batch: Mapping[str, Tensor], output: MetroOutput, tokenizer: Any, rows: int
) -> list[StripRow]:
    """Read the first rows of a batch and of the model's output for it.

    Args:
        batch: A batch of `DataCollatorForMetro`.
        output: The model's output for it.
        tokenizer: Names the tokens.
        rows: Number of rows, at most those of the batch.
    """
    labels = batch["labels"]
    masked = torch.zeros_like(labels, dtype=torch.bool).flatten()
    masked[batch["masked_positions"]] = True
    masked = masked.view_as(labels)
    logits = output.rtd_logits if output.rtd_logits is not None else output.rtd_decoder_logits
    probabilities = None if logits is None else logits.sigmoid().cpu()
    assert output.encoder_ids is not None
    read = output.encoder_ids.cpu()
    found = []
    for row in range(min(rows, len(labels))):
        length = int(batch["attention_mask"][row].sum())
        names = [
            _names(tokenizer, ids[row, :length].tolist())
            for ids in (labels, batch["input_ids"], read)
        ]
        tokens = tuple(
            StripToken(
                original=names[0][i],
                masked=names[1][i] if masked[row, i] else None,
                read=names[2][i],
                replaced=bool(labels[row, i] != read[row, i]),
                probability=None if probabilities is None else float(probabilities[row, i]),
            )
            for i in range(length)
        )
        found.append(StripRow(int(batch["sample_ids"][row]), tokens))
    return found


def _names(tokenizer: Any, ids: list[int]) -> list[str]:
    """The tokens of ids; an id without a token, of a hole in the vocabulary, names itself."""
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return [
        f"<id {index}>" if token is None else token
        for index, token in zip(ids, tokens, strict=True)
    ]


class SentenceStrip(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Shows what METRO does to a few rows, while it trains.

    For each row it writes, on stderr and if wanted to a page, the original tokens, the masked ones,
    the tokens drawn for them, and the probability that the detector gives to "replaced". The rows
    are run in evaluation mode, and no random number of the training is used.

    Args:
        tokenizer: Names the tokens.
        batch: Rows that are not trained on, as `DataCollatorForMetro` makes them.
        rows: Number of rows of the batch that are shown.
        every: Steps from one strip to the next; None for a strip at each evaluation.
        show: Whether to write the strips as text.
        html: A page to write the strips of the last steps to, or None.
        file: Where to write the strips; by default stderr. Colors are for terminals; the marks
            are for all.

    Raises:
        MetroFastError: If a number is below 1, or the batch is not one of METRO.

    Example:
        >>> from metro_fast.data import DataCollatorForMetro, train_tokenizer
        >>> from metro_fast.metro import MetroConfig, MetroForPretraining, MetroTrainer
        >>> from metro_fast.metro import MetroTrainingArguments
        >>> tokenizer = train_tokenizer(["a b c d e f g h"] * 9, vocab_size=40, num_sentinels=4)
        >>> rows = [{"input_ids": [*range(6, 16)], "sample_id": i} for i in range(8)]
        >>> collator = DataCollatorForMetro(tokenizer)
        >>> main = dict(d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=1)
        >>> config = MetroConfig(main={**main, "vocab_size": len(tokenizer)})
        >>> trainer = MetroTrainer(
        ...     MetroForPretraining(config),
        ...     MetroTrainingArguments("run", max_steps=1, save_strategy="no"),
        ...     train_dataset=rows[2:],
        ...     data_collator=collator,
        ...     callbacks=[
        ...         SentenceStrip(tokenizer, collator(rows[:2]), every=1, html="strip.html")
        ...     ],
        ... )
        >>> _ = trainer.train()
        >>> "after 1 step" in Path("strip.html").read_text()
        True
    """

    def __init__(
        self,
        tokenizer: Any,
        batch: Mapping[str, Tensor],
        *,
        rows: int = 2,
        every: int | None = 100,
        show: bool = True,
        html: str | Path | None = None,
        file: TextIO | None = None,
    ) -> None:
        check_at_least(1, rows=rows, every=1 if every is None else every)
        missing = [name for name in NEEDED if name not in batch]
        if missing:
            raise MetroFastError(
                f"the batch lacks {', '.join(missing)}: make it with DataCollatorForMetro"
            )
        self._tokenizer, self._batch = tokenizer, dict(batch)
        self._rows, self._every, self._show_text = rows, every, show
        self._html, self._file = html, file
        self._strips: list[tuple[int, list[StripRow]]] = []

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the rows, every so many steps and after the last one.

        Raises:
            OSError: If the page cannot be written.
        """
        if self._every is None:
            return
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._strip(kwargs["model"], state)

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the rows, if each evaluation has a strip.

        Raises:
            OSError: If the page cannot be written.
        """
        if self._every is None:
            self._strip(kwargs["model"], state)

    def _strip(self, model: Any, state: TrainerState) -> None:
        # A model that is sharded over ranks runs on all of them.
        if not state.is_world_process_zero and not any(
            isinstance(parameter, DTensor) for parameter in model.parameters()
        ):
            return
        rows = self._run(model)
        if state.is_world_process_zero:
            self._strips.insert(0, (state.global_step, rows))
            del self._strips[KEPT:]
            self._write()

    def _run(self, model: Any) -> list[StripRow]:
        device = next(model.parameters()).device
        inputs = {name: self._batch[name].to(device) for name in NEEDED}
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        with torch.no_grad():
            output = model(**inputs)
        for module, training in modes:
            module.training = training
        return strip_rows(self._batch, output, self._tokenizer, self._rows)

    def _write(self) -> None:
        step, rows = self._strips[0]
        if self._show_text:
            file = self._file or sys.stderr
            console = Console(file=file, width=None if file.isatty() else 120, highlight=False)
            for row in rows:
                console.print(strip_text(row, step, console.width), soft_wrap=True)
        if self._html is not None:
            write_atomically(self._html, strip_page(self._strips))

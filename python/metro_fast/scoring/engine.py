"""One engine for every model: prompts and a protocol in, outcomes out."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from typing import Protocol as Shape

import torch
from transformers.utils import logging as transformers_logging

from metro_fast.errors import MetroFastError
from metro_fast.scoring.accuracy import predictions
from metro_fast.scoring.choice_tokens import check_inputs, choices_by_input
from metro_fast.scoring.decoders import make_decoder
from metro_fast.scoring.encoding import Encoded, encode_prompts
from metro_fast.scoring.generation import written_answers
from metro_fast.scoring.label_matching import label_names, match_label
from metro_fast.scoring.log_likelihoods import log_likelihoods
from metro_fast.scoring.model_checks import (
    check_ids,
    check_sums,
    evaluation_mode,
    positions_of,
    vocabulary,
)
from metro_fast.scoring.normalization import normalized
from metro_fast.scoring.outcome import Outcome
from metro_fast.scoring.protocol import Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Engine", "Question"]


class Question(Shape):
    """Anything with an input and its choices."""

    @property
    def input(self) -> str:
        """The text that the model reads."""

    @property
    def choices(self) -> Sequence[str] | None:
        """The choices; None or empty if the answer is free."""


class Engine:
    """Asks a model prompts under a protocol.

    Encoder-decoders (T5) encode each input once; causal models read each input once and keep its
    keys and values. The choices are then read as a trie, in which a shared prefix is read once; if
    every choice has one token, the logits after the input are enough.

    Outcomes depend neither on the order of the prompts nor, up to rounding (1e-4), on how they are
    batched. With `max_batch_tokens=1` every prompt is a batch of its own, without padding, and its
    scores are the same bits in any order and any shard.

    Args:
        model: An encoder-decoder or a causal model, or a `PeftModel` over one (LoRA, IA3, not
            prompt tuning), in fp32 or bf16. Its modules' training flags are left as they were.
        tokenizer: The model's tokenizer.
        max_batch_tokens: Most padded tokens of one call; a longer row gets a call of its own.
        padding_side: Where the inputs of a causal model are padded, left or right.
        progress: Whether to show a progress bar.

    Raises:
        MetroFastError: If the model cannot be scored (an encoder-decoder in fp16 or without a start
            token, prompt tuning, right padding with a sliding window), or a value is out of range.

    Example:
        >>> engine = Engine(model, tokenizer)  # doctest: +SKIP
        >>> engine.answer(prompts, PROTOCOLS["lm_eval"])[0].prediction  # doctest: +SKIP
        1
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        max_batch_tokens: int = 16384,
        padding_side: str = "left",
        progress: bool = False,
    ) -> None:
        if max_batch_tokens < 1:
            raise MetroFastError(f"max_batch_tokens is {max_batch_tokens}; give at least 1")
        self._model, self._tokenizer = model, tokenizer
        self._decoder = make_decoder(model, padding_side)
        self._max_batch_tokens = max_batch_tokens
        self._progress = progress

    def answer(self, prompts: Sequence[Question], protocol: Protocol) -> list[Outcome]:
        """Ask every prompt.

        Args:
            prompts: At least one object with an `input` and `choices`, such as
                `metro_fast.prompts.Prompt`. Choices may be absent only under a protocol that
                generates. If the choices are letters, `texts` may have the options that they are
                for, by which `match_label` reads a written answer too.
            protocol: How they are asked.

        Returns:
            One outcome per prompt, in order.

        Raises:
            TypeError: If a text is not a string.
            MetroFastError: If there is nothing to ask, a choice has no tokens or leaves no room for
                the input, a cut makes two choices equal, the model's vocabulary is smaller than the
                tokenizer's ids, or it gives NaN.
        """
        inputs = check_inputs([prompt.input for prompt in prompts])
        if protocol.generate:
            free = [not prompt.choices for prompt in prompts]
            given = [prompt.choices or ["-"] for prompt in prompts]
            choices = choices_by_input(given, len(inputs))
            choices = [[] if f else c for f, c in zip(free, choices, strict=True)]
            return self._write(inputs, choices, _texts_behind(prompts, choices, protocol), protocol)
        for index, prompt in enumerate(prompts):
            if not prompt.choices:
                raise MetroFastError(
                    f"input {index} has no choices to score; use a protocol that generates"
                )
        return self._rank(
            inputs, choices_by_input([p.choices or [] for p in prompts], len(inputs)), protocol
        )

    def _encode(
        self, inputs: list[str], choices: list[list[str]], protocol: Protocol
    ) -> list[Encoded]:
        encoded = encode_prompts(
            self._tokenizer,
            protocol,
            inputs,
            choices,
            causal=self._decoder.causal,
            positions=positions_of(self._model, self._tokenizer),
        )
        check_ids(self._model, [e.context for e in encoded])
        check_ids(self._model, [ids for e in encoded for ids in e.targets] or [[0]])
        return encoded

    def _rank(
        self, inputs: list[str], choices: list[list[str]], protocol: Protocol
    ) -> list[Outcome]:
        encoded = self._encode(inputs, choices, protocol)
        pairs = [(tuple(e.context), tuple(map(tuple, e.targets))) for e in encoded]
        if protocol.normalization == "pmi":
            nothing = tuple(self._nothing())
            pairs += [(nothing, targets) for _, targets in pairs]
        # The same input may come several times; all its targets are scored together.
        union: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
        for context, targets in pairs:
            union.setdefault(context, {}).update(dict.fromkeys(targets))
        with self._running(len(union)) as bar:
            rows = log_likelihoods(
                self._decoder,
                list(union),
                [list(targets) for targets in union.values()],
                vocabulary=vocabulary(self._model),
                max_batch_tokens=self._max_batch_tokens,
                bar=bar,
            )
        found = {
            context: dict(zip(targets, row, strict=True))
            for (context, targets), row in zip(union.items(), rows, strict=True)
        }
        sums = [[found[context][ids] for ids in targets] for context, targets in pairs]
        check_sums(sums)
        without: list[list[float] | None] = [None] * len(encoded)
        if protocol.normalization == "pmi":
            sums, without = sums[: len(encoded)], [*sums[len(encoded) :]]
        scores = [
            normalized(
                row,
                protocol.normalization,
                texts=e.texts,
                token_counts=[len(ids) for ids in e.targets],
                unconditional=unconditional,
            )
            for e, row, unconditional in zip(encoded, sums, without, strict=True)
        ]
        return [
            Outcome(best, row, None, e.cut_tokens)
            for best, row, e in zip(predictions(scores), scores, encoded, strict=True)
        ]

    def _write(
        self,
        inputs: list[str],
        choices: list[list[str]],
        behind: list[Sequence[str]],
        protocol: Protocol,
    ) -> list[Outcome]:
        encoded = self._encode(inputs, choices, protocol)
        for e, texts in zip(encoded, behind, strict=True):
            label_names(e.texts, texts)  # before minutes of work
        contexts = list(dict.fromkeys(tuple(e.context) for e in encoded))
        with self._running(len(contexts)) as bar:
            answers = written_answers(
                self._decoder,
                self._tokenizer,
                contexts,
                protocol,
                max_batch_tokens=self._max_batch_tokens,
                bar=bar,
            )
        text_of = dict(zip(contexts, answers, strict=True))
        outcomes = []
        for e, texts in zip(encoded, behind, strict=True):
            text = text_of[tuple(e.context)]
            found = match_label(text, e.texts, texts) if e.texts else -1
            outcomes.append(Outcome(found, None, text, e.cut_tokens))
        return outcomes

    def _nothing(self) -> list[int]:
        """The context of no input: start token, else end token (lm-eval's `prefix_token_id`)."""
        for found in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id):
            if found is not None:
                return [found]
        raise MetroFastError(
            "pmi needs a start or an end token in place of the input, and the tokenizer has "
            "neither; set one"
        )

    @contextlib.contextmanager
    def _running(self, total: int) -> Iterator[Any]:
        """The model in evaluation mode without gradients, under a progress bar."""
        bar = transformers_logging.tqdm(total=total, disable=not self._progress, unit="input")
        with evaluation_mode(self._model), torch.inference_mode(), bar:
            yield bar


def _texts_behind(
    prompts: Sequence[Question], choices: list[list[str]], protocol: Protocol
) -> list[Sequence[str]]:
    """The options that the letters of each prompt are for; none where choices are not letters."""
    # A question need not have them: only an input and choices are asked for.
    own: list[Sequence[str]] = [getattr(prompt, "texts", None) or () for prompt in prompts]
    if protocol.letters:
        return [texts or row for texts, row in zip(own, choices, strict=True)]
    return own

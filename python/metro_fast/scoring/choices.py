"""Rank classification: the log-likelihood of each of the given answers under a model."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging as transformers_logging

from metro_fast.errors import MetroFastError
from metro_fast.scoring.choice_tokens import (
    check_inputs,
    choices_by_input,
    encode_choices,
    encode_inputs,
)
from metro_fast.scoring.likelihood import target_log_probs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["PRESETS", "score_choices"]

PRESETS = {"metro_t0": True, "t0": False}
"""Whether inputs carry the tokenizer's special tokens (`</s>`), by the name of a protocol.

`metro_t0` is METRO-T0's evaluation (gonglinyuan/metro_t0 t-zero/evaluation/run_eval.py:189-206),
`t0` the original T0's (bigscience-workshop/t-zero evaluation/run_eval.py:261-277). They give
different numbers. Targets end in `</s>` in both.
"""

# fp32 logits of one decoder call: 2**25 elements are 128 MiB.
_MAX_LOGITS = 2**25


def score_choices(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    inputs: Sequence[str],
    choices: Sequence[str] | Sequence[Sequence[str]],
    *,
    preset: str = "metro_t0",
    max_input_length: int = 512,
    max_target_length: int = 256,
    max_batch_tokens: int = 16384,
    progress: bool = False,
) -> list[list[float]]:
    """Score every choice of every input by its log-likelihood under an encoder-decoder model.

    score(k) = Σ_t log p(y_kt | y_k<t, x) over the tokens of choice k, `</s>` included, without
    length normalization (T0, arXiv 2110.08207; t-zero t0/model.py:61-67), with log-softmax in
    fp32 whatever the model's dtype. Each input is encoded once; its states serve all its choices.
    Scores do not depend on the order of the inputs nor, up to rounding, on how they are batched.

    Args:
        model: T5 or another encoder-decoder model, or a `PeftModel` over one (LoRA, IA3, not
            prompt tuning), in fp32 or bf16. Its modules' training flags are left as they were.
        tokenizer: The model's tokenizer, which must end targets with its end token.
        inputs: At least one text.
        choices: One list for all inputs, or one list for each input.
        preset: `metro_t0` or `t0`, see `PRESETS`.
        max_input_length: Longer inputs are cut, with a logged warning that counts them. Tokens.
        max_target_length: Longer choices are cut. Tokens, `</s>` included.
        max_batch_tokens: Most padded tokens of one encoder or decoder call; a longer row gets a
            call of its own.
        progress: Whether to show a progress bar.

    Returns:
        Scores in nats, `[inputs][choices of that input]`.

    Raises:
        TypeError: If a text is not a string, or lists and strings are mixed in `choices`.
        MetroFastError: If there is nothing to score, a choice has no tokens, the model cannot be
            scored (decoder only, fp16, prompt tuning), its vocabulary is smaller than the
            tokenizer's ids, it gives NaN, or an argument is out of its range.

    Example:
        >>> from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
        >>> model = AutoModelForSeq2SeqLM.from_pretrained("t5-small")  # doctest: +SKIP
        >>> tokenizer = AutoTokenizer.from_pretrained("t5-small")  # doctest: +SKIP
        >>> score_choices(model, tokenizer, ["Is snow white?"], ["yes", "no"])  # doctest: +SKIP
        [[-1.94, -3.17]]
    """
    if preset not in PRESETS:
        raise MetroFastError(f"preset is {preset!r}; give one of {', '.join(PRESETS)}")
    for name, limit in (
        ("max_input_length", max_input_length),
        ("max_target_length", max_target_length),
        ("max_batch_tokens", max_batch_tokens),
    ):
        if limit < 1:
            raise MetroFastError(f"{name} is {limit}; give at least 1")
    texts = check_inputs(inputs)
    choice_texts = choices_by_input(choices, len(texts))
    _check_model(model)

    sources = encode_inputs(tokenizer, texts, PRESETS[preset], max_input_length)
    tokens_of = encode_choices(tokenizer, choice_texts, max_target_length)
    targets = [[tokens_of[choice] for choice in row] for row in choice_texts]
    _check_ids(model, sources, tokens_of.values())
    with _evaluation_mode(model), torch.inference_mode():
        scores = _score_all(model, sources, targets, max_batch_tokens, progress)
    _check_scores(scores)
    return scores


def _check_ids(
    model: "PreTrainedModel", sources: list[list[int]], targets: Iterable[list[int]]
) -> None:
    vocab_size = _vocabulary(model)
    largest = max(max(map(max, sources)), max(map(max, targets)))
    if largest >= vocab_size:
        raise MetroFastError(
            f"the tokenizer gives id {largest}, the model has {vocab_size} embeddings; "
            "use the model's own tokenizer"
        )


def _score_all(
    model: "PreTrainedModel",
    sources: list[list[int]],
    targets: list[list[list[int]]],
    max_batch_tokens: int,
    progress: bool,
) -> list[list[float]]:
    """Scores of `targets[i]` under each `sources[i]`, which is encoded once."""
    max_target_tokens = _MAX_LOGITS // _vocabulary(model)
    scores = [[0.0] * len(row) for row in targets]
    # Longest first, so that the first call already shows whether the memory suffices.
    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
    with transformers_logging.tqdm(total=len(sources), disable=not progress, unit="input") as bar:
        for rows in _buckets(order, [len(s) for s in sources], max_batch_tokens):
            states, mask = _encode(model, [sources[i] for i in rows])
            pairs = [(row, k) for row, i in enumerate(rows) for k in range(len(targets[i]))]
            lengths = [len(targets[rows[row]][k]) for row, k in pairs]
            by_length = sorted(range(len(pairs)), key=lambda p: -lengths[p])
            bounds = {"per_row": states.shape[1], "max_target_tokens": max_target_tokens}
            for chunk in _buckets(by_length, lengths, max_batch_tokens, **bounds):
                of_row, of_choice = zip(*(pairs[p] for p in chunk), strict=True)
                indices = list(zip((rows[row] for row in of_row), of_choice, strict=True))
                values = _score(model, states, mask, of_row, [targets[i][k] for i, k in indices])
                for (i, k), value in zip(indices, values, strict=True):
                    scores[i][k] = value
            bar.update(len(rows))
    return scores


def _vocabulary(model: "PreTrainedModel") -> int:
    """The size of the token embedding, even where an adapter wraps it (LoRA, trained tokens)."""
    embedding = model.get_input_embeddings()
    while not isinstance(embedding, torch.nn.Embedding):
        embedding = getattr(embedding, "base_layer", None) or embedding.original_module
    return embedding.num_embeddings


def _check_model(model: "PreTrainedModel") -> None:
    """Refuse models whose scores would be wrong without any sign of it."""
    if not getattr(model.config, "is_encoder_decoder", False):
        raise MetroFastError(
            f"{type(model).__name__} is not an encoder-decoder model; score_choices needs "
            "one, such as T5"
        )
    peft_config = getattr(model, "active_peft_config", None)
    if peft_config is not None and peft_config.is_prompt_learning:
        # PeftModel.forward adds the virtual tokens; a call of the bare encoder does not.
        raise MetroFastError(
            f"{peft_config.peft_type} adds virtual tokens, which encoding once would leave out; "
            "score LoRA or IA3 experts"
        )
    if any(parameter.dtype == torch.float16 for parameter in model.parameters()):
        raise MetroFastError(
            "the model is in float16, in which T5 overflows and ranks choices at random; "
            "load it in bfloat16 or float32"
        )
    if model.config.decoder_start_token_id is None:
        raise MetroFastError(
            "model.config.decoder_start_token_id is None; set it to the id that starts a target, "
            "for T5 that of padding"
        )


def _buckets(
    order: list[int],
    lengths: list[int],
    max_tokens: int,
    *,
    per_row: int = 0,
    max_target_tokens: int | None = None,
) -> Iterator[list[int]]:
    """Cut an order of falling lengths into runs that, padded, stay within the bounds."""
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        size = max_tokens // (longest + per_row)
        if max_target_tokens is not None:
            size = min(size, max_target_tokens // longest)
        end = start + max(size, 1)
        yield order[start:end]
        start = end


def _encode(
    model: "PreTrainedModel", sources: list[list[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The encoder states [B, L, D] and the attention mask [B, L], int64."""
    ids, mask = _pad(sources, model)
    encoded = model.get_encoder()(input_ids=ids, attention_mask=mask.long(), return_dict=True)
    return encoded.last_hidden_state, mask.long()


def _score(
    model: "PreTrainedModel",
    states: torch.Tensor,
    mask: torch.Tensor,
    rows: Sequence[int],
    targets: list[list[int]],
) -> list[float]:
    """Score targets, each against the encoded row that `rows` names at the same index."""
    labels, label_mask = _pad(targets, model)
    decoder_input_ids = labels.roll(1, dims=1)
    decoder_input_ids[:, 0] = model.config.decoder_start_token_id
    index = torch.tensor(rows, device=states.device)
    # No mask: padding is on the right of a causal decoder, where no real token sees it.
    output = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=states.index_select(0, index)),
        attention_mask=mask.index_select(0, index),
        decoder_input_ids=decoder_input_ids,
        use_cache=False,
        return_dict=True,
    )
    scores: list[float] = target_log_probs(output.logits, labels, label_mask).tolist()
    return scores


def _pad(rows: list[list[int]], model: "PreTrainedModel") -> tuple[torch.Tensor, torch.Tensor]:
    """Pad ids on the right to int64 [B, L], with a bool mask [B, L] that is False at padding."""
    device = next(model.parameters()).device
    width = max(map(len, rows))
    # Padding may have any id, since the mask hides it.
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return ids.to(device), mask.to(device)


@contextlib.contextmanager
def _evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off, and restore every module's own training flag afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _check_scores(scores: list[list[float]]) -> None:
    for index, row in enumerate(scores):
        for k, score in enumerate(row):
            if math.isnan(score):
                raise MetroFastError(
                    f"the score of input {index}, choice {k} is NaN; "
                    "check the model's weights, which may be damaged"
                )

"""Rank classification: how likely a model finds each of the given answers."""

import contextlib
import math
from collections.abc import Iterator, Sequence
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
"""Name of a protocol: whether the input carries the tokenizer's special tokens (`</s>`).

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
    """Log-likelihood of every choice of every input under an encoder-decoder model.

    score(k) = Σ_t log p(y_kt | y_k<t, x) over the tokens of choice k, `</s>` included, without
    length normalization (T0, arXiv 2110.08207; t-zero t0/model.py:61-67), with log-softmax in
    fp32 whatever the model's dtype. Each input is encoded once; its states serve all its choices.
    Scores do not depend on the order of the inputs nor, up to rounding, on how they are batched.

    Args:
        model: T5 or another encoder-decoder model, or a `PeftModel` over one (LoRA, IA3, not
            prompt tuning), in fp32 or bf16. Its modules' training flags are left as they were.
        tokenizer: Its tokenizer; must end targets with its end token.
        inputs: At least one text.
        choices: One list for all inputs, or one list for each input.
        preset: `metro_t0` or `t0`, see `PRESETS`.
        max_input_length: Longer inputs are cut, with a logged warning that counts them. Tokens.
        max_target_length: Longer choices are cut. Tokens, `</s>` included.
        max_batch_tokens: Bound on padded tokens of one encoder or decoder call; a longer row goes
            alone.
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
    vocab_size = _vocabulary(model)
    largest = max(max(map(max, sources)), max(map(max, tokens_of.values())))
    if largest >= vocab_size:
        raise MetroFastError(
            f"the tokenizer gives id {largest}, the model has {vocab_size} embeddings; "
            "use the model's own tokenizer"
        )

    scores = [[0.0] * len(row) for row in targets]
    bar = transformers_logging.tqdm(total=len(texts), disable=not progress, unit="input")
    with bar, _evaluation_mode(model), torch.inference_mode():
        # Longest first: if memory does not suffice, that shows in the first call.
        order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
        for rows in _buckets(order, [len(s) for s in sources], max_batch_tokens):
            states, mask = _encode(model, [sources[i] for i in rows])
            pairs = [(row, k) for row, i in enumerate(rows) for k in range(len(targets[i]))]
            lengths = [len(targets[rows[row]][k]) for row, k in pairs]
            by_length = sorted(range(len(pairs)), key=lambda p: -lengths[p])
            bounds = {"per_row": states.shape[1], "max_target_tokens": _MAX_LOGITS // vocab_size}
            for chunk in _buckets(by_length, lengths, max_batch_tokens, **bounds):
                of_row, of_choice = zip(*(pairs[p] for p in chunk), strict=True)
                indices = list(zip((rows[row] for row in of_row), of_choice, strict=True))
                values = _score(model, states, mask, of_row, [targets[i][k] for i, k in indices])
                for (i, k), value in zip(indices, values, strict=True):
                    scores[i][k] = value
            bar.update(len(rows))
    _check_scores(scores)
    return scores


def _vocabulary(model: "PreTrainedModel") -> int:
    """Rows of the token embedding, also under an adapter that wraps it (LoRA, trained tokens)."""
    embedding = model.get_input_embeddings()
    while not isinstance(embedding, torch.nn.Embedding):
        embedding = getattr(embedding, "base_layer", None) or embedding.original_module
    return embedding.num_embeddings


def _check_model(model: "PreTrainedModel") -> None:
    """Refuse models whose scores would be wrong without a sign of it."""
    if not getattr(model.config, "is_encoder_decoder", False):
        raise MetroFastError(
            f"{type(model).__name__} is not an encoder-decoder model; score_choices takes T5 alike"
        )
    peft_config = getattr(model, "active_peft_config", None)
    if peft_config is not None and peft_config.is_prompt_learning:
        # Its virtual tokens enter in PeftModel.forward, which the bare encoder goes past.
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
        raise MetroFastError("model.config.decoder_start_token_id is None; set it")


def _buckets(
    order: list[int],
    lengths: list[int],
    max_tokens: int,
    *,
    per_row: int = 0,
    max_target_tokens: int | None = None,
) -> Iterator[list[int]]:
    """Cut an order of falling lengths into runs that fit, padded, into the bounds."""
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
    """Encoder states [B, L, D] and attention mask [B, L], int64."""
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
    """Scores of targets, each against the encoded row of the same place in `rows`."""
    labels, label_mask = _pad(targets, model)
    decoder_input_ids = labels.roll(1, dims=1)
    decoder_input_ids[:, 0] = model.config.decoder_start_token_id
    index = torch.tensor(rows, device=states.device)
    # Padding stands on the right of a causal decoder: no real token can see it, no mask needed.
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
    """Ids [B, L], int64, padded on the right, and the mask [B, L], bool, of what is not padding."""
    device = next(model.parameters()).device
    width = max(map(len, rows))
    # Any id will do at padding, since the mask hides it.
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return ids.to(device), mask.to(device)


@contextlib.contextmanager
def _evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Dropout off, and every module's own training flag back afterwards."""
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
                    "the model's weights or activations are damaged"
                )

"""Slow and obvious scorers: one prompt, one choice, one whole forward, fp32 log-softmax."""

import random
from typing import NamedTuple

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

_TEXT = (
    "the a of in is are was and or not yes no what which who where how many one two three red "
    "green blue good bad cat dog bird fish house river city capital country border north south "
    "paris rome oslo runs flows eats sees answer question choose A B C D E USER"
)
WORDS = _TEXT.split()


class Question(NamedTuple):
    input: str
    choices: list[str] | None


def make_questions(count: int, seed: int = 0, longest: int = 25) -> list[Question]:
    """Inputs of 1 to 25 words, with 2 to 5 choices of 1 to 6 words that share beginnings."""
    draw = random.Random(seed)
    lower = [word for word in WORDS if word.islower()]
    questions = []
    for _ in range(count):
        stem = draw.choices(lower, k=3)
        choices = {" ".join(stem[: draw.randint(0, 3)] + draw.choices(lower, k=draw.randint(1, 3)))
                   for _ in range(5)}  # fmt: skip
        text = " ".join(draw.choices(lower, k=draw.randint(1, longest)))
        questions.append(Question(text, sorted(choices)[: draw.randint(2, 5)]))
    return questions


def naive_encoder_decoder(model, source: list[int], target: list[int]) -> float:
    """Σ log p(target | source) of an encoder-decoder, without padding, cache or sharing."""
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([source]), labels=torch.tensor([target]), use_cache=False
        ).logits[0]
    table = torch.log_softmax(logits.float(), -1)
    return sum(table[place, token].item() for place, token in enumerate(target))


def naive_causal(model, context: list[int], target: list[int]) -> float:
    """Σ log p(target | context) of a causal model, without padding, cache or sharing."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([(context + target)[:-1]]), use_cache=False).logits[0]
    table = torch.log_softmax(logits.float(), -1)
    start = len(context) - 1
    return sum(table[start + place, token].item() for place, token in enumerate(target))


def naive_greedy(model, context: list[int], count: int, ends: tuple[int, ...]) -> list[int]:
    """The most likely next token, again and again, of a causal model without a cache."""
    ids = list(context)
    while len(ids) < len(context) + count:
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in ends:
            break
    return ids[len(context) :]


def causal_model(kind: str, vocabulary: int):
    """A causal model with random weights, with `rotary` or `learned` positions.

    The positions of `sliding` are rotary too, and a token sees the last six alone.
    """
    if kind == "rotary":
        config = LlamaConfig(
            vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            bos_token_id=0, eos_token_id=1,
        )  # fmt: skip
        make = LlamaForCausalLM
    elif kind == "sliding":
        config = MistralConfig(
            vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            sliding_window=6, bos_token_id=0, eos_token_id=1,
        )  # fmt: skip
        make = MistralForCausalLM
    else:
        config = GPT2Config(
            vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0,
            eos_token_id=1,
        )  # fmt: skip
        make = GPT2LMHeadModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(config)
        # Nearly equal logits would hide mistakes.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
    return model.eval()


def causal_tokenizer(words: list[str], *, start: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of words and spaces, `<s>` 0, `</s>` 1; a word keeps the space before it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    pieces = ["<s>", "</s>", "<unk>", *dict.fromkeys(form for w in words for form in (w, "Ġ" + w))]
    pieces += [piece for piece in ("Ċ", "Ġ", "ĊĊ") if piece not in pieces]
    backend = Tokenizer(
        models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if start:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        model_max_length=64,
    )  # fmt: skip

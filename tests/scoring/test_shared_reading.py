"""Text that prompts or choices share is read once, with the scores of reading each alone."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from metro_fast.scoring import PROTOCOLS, Engine, causal_decoder
from metro_fast.scoring.batches import cached_tokens
from metro_fast.scoring.trie import tree_of
from naive_scorer import (
    WORDS,
    Question,
    causal_model,
    causal_tokenizer,
    make_questions,
    naive_causal,
    naive_greedy,
)

STEM = "the capital city of the country in the north is"
CITIES = ("paris", "rome", "oslo")
TARGETS = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.integers(0, 2), min_size=1, max_size=6)),
    min_size=1,
    max_size=12,
)


@pytest.fixture(scope="module")
def words():
    return causal_tokenizer(WORDS)


def model_of(kind: str, vocabulary: int, attention: str = "sdpa"):
    """A small model of any kind, whose logits are of an ordinary size."""
    config = AutoConfig.for_model(
        kind, vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, head_dim=8,
        sliding_window=None, bos_token_id=0, eos_token_id=1, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
    return model.eval()


def ids_of(tokenizer, question: Question, choice: str) -> tuple[list[int], list[int]]:
    """The context and a target, as lm-eval makes them where words keep the space before them."""
    start = tokenizer(question.input)["input_ids"]
    return start, tokenizer(f"{question.input} {choice}")["input_ids"][len(start) :]


def assert_naive(model, tokenizer, questions, outcomes) -> None:
    for question, outcome in zip(questions, outcomes, strict=True):
        expected = [naive_causal(model, *ids_of(tokenizer, question, c)) for c in question.choices]
        assert outcome.scores == pytest.approx(expected, abs=1e-4)


def tokens_read(model) -> tuple[list[int], torch.utils.hooks.RemovableHandle]:
    """The number of tokens of every call that follows."""
    seen: list[int] = []

    def note(module, args, kwargs):
        seen.append(kwargs["input_ids"].numel())

    return seen, model.register_forward_pre_hook(note, with_kwargs=True)


@given(TARGETS)
def test_a_tree_holds_every_branch_once(targets):
    tree = tree_of(targets)
    seen = []
    for read in tree.reads:
        context, ids = targets[read.target]
        assert tree.contexts[read.row] == context
        way = tree.paths[read.row][read.position]
        assert way[-1] == read.position
        assert [tree.tokens[read.row][place] for place in way] == ids[: read.depth]
        assert read.label == ids[read.depth]
        seen.append((read.target, read.depth))
    assert sorted(seen) == [(t, d) for t, (_, i) in enumerate(targets) for d in range(1, len(i))]
    branches = {(c, tuple(ids[:d])) for c, ids in targets for d in range(1, len(ids))}
    assert sum(map(len, tree.tokens)) == len(branches)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", causal_decoder._TREES)
def test_models_that_read_trees_equal_the_naive_scorer(words, kind, attention, side):
    model = model_of(kind, len(words), attention)
    engine = Engine(model, words, padding_side=side)
    questions = make_questions(6)
    assert_naive(model, words, questions, engine.answer(questions, PROTOCOLS["lm_eval"]))

    question = Question("which city ?", [f"{STEM} {city} of rome" for city in CITIES])
    calls, hook = tokens_read(model)
    (outcome,) = engine.answer([question], PROTOCOLS["lm_eval"])
    hook.remove()
    context, _ = ids_of(words, question, CITIES[0])
    # The ten words of the stem, and two more of each city; "rome" at the end is never read.
    assert calls == [len(context), 10 + 3 * 2]
    assert_naive(model, words, [question], [outcome])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["rotary", "learned"])
def test_a_beginning_that_prompts_share_is_read_once(words, kind, side, monkeypatch):
    monkeypatch.setattr(causal_decoder, "_SAVED", 20)
    model = causal_model(kind, len(words))
    ends = ("paris", "rome ?", "oslo and rome")
    questions = [Question(f"{STEM} {end}", ["yes", "no", "the city"]) for end in ends]
    calls, hook = tokens_read(model)
    outcomes = Engine(model, words, padding_side=side).answer(questions, PROTOCOLS["lm_eval"])
    hook.remove()
    # Ten words and <s>; then three rows of up to three words; then "the", before "city".
    assert calls == [11, 3 * 3, 3]
    assert_naive(model, words, questions, outcomes)

    protocol = replace(PROTOCOLS["generate_match"], max_new_tokens=5, stop=())
    calls, hook = tokens_read(model)
    outcomes = Engine(model, words, padding_side=side).answer(questions, protocol)
    hook.remove()
    assert calls[:2] == [11, 3 * 3]
    for question, outcome in zip(questions, outcomes, strict=True):
        written = naive_greedy(model, words(question.input)["input_ids"], 5, ends=(1,))
        assert outcome.text == words.decode(written, skip_special_tokens=True)


def test_a_window_and_a_short_beginning_are_not_shared(words):
    for kind, ends in (("sliding", CITIES * 4), ("rotary", CITIES)):
        model = causal_model(kind, len(words))
        questions = [Question(f"{STEM} {end}", ["yes", "no"]) for end in dict.fromkeys(ends)]
        calls, hook = tokens_read(model)
        outcomes = Engine(model, words).answer(questions, PROTOCOLS["lm_eval"])
        hook.remove()
        assert calls == [3 * 12]
        assert_naive(model, words, questions, outcomes)


def test_targets_of_a_context_stay_together(tiny_t5, tiny_tokenizer):
    choices = [f"{STEM} {city}" for city in CITIES]
    questions = [Question(word, choices) for word in ("yes", "no")]
    read = []
    hook = tiny_t5.register_forward_hook(lambda *call: read.append(call[2].logits.shape[:2]))
    # 60 tokens hold two contexts, and four targets of eleven tokens behind them.
    Engine(tiny_t5, tiny_tokenizer, max_batch_tokens=60).answer(questions, PROTOCOLS["t0"])
    hook.remove()
    # For each context the start token, the ten words of the stem once, and the three cities.
    assert sum(rows * tokens for rows, tokens in read) == 2 * (1 + 10 + 3)


@pytest.mark.parametrize("kind", ["rotary", "learned"])
def test_the_bound_of_a_cache_counts_what_it_holds(words, kind):
    model = causal_model(kind, len(words))
    with torch.no_grad():
        cache = model(input_ids=torch.tensor([[3, 4, 5, 6, 7]]), use_cache=True).past_key_values
    elements = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    # 2**27 numbers, which are 512 MiB in fp32.
    assert cached_tokens(model) == 2**27 // (elements // 5)

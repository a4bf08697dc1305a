"""Wrappers: the published texts, chat templates as text, and their place in a protocol."""

import pytest

from metro_fast.errors import MetroFastError
from metro_fast.scoring import PROTOCOLS, WRAPPERS, Engine, chat_wrapper, find_protocol
from naive_scorer import WORDS, Question, causal_model, causal_tokenizer, naive_causal

CHATML = (
    "{{ bos_token }}{% for m in messages %}USER {{ m['content'] }} question{% endfor %}"
    "{% if add_generation_prompt %} answer {% endif %}"
)


@pytest.fixture
def tokenizer():
    tokenizer = causal_tokenizer(WORDS)
    tokenizer.chat_template = CHATML
    return tokenizer


def test_the_published_texts():
    # tatsu-lab/stanford_alpaca train.py PROMPT_DICT["prompt_no_input"].
    assert WRAPPERS["alpaca"].wrap("Add 1 and 2.") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nAdd 1 and 2.\n\n### Response:"
    )
    # lm-sys/FastChat docs/vicuna_weights_version.md, weights v1.1.
    assert WRAPPERS["vicuna"].wrap("Hello!") == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: Hello! "
        "ASSISTANT:"
    )
    assert WRAPPERS["plain"].wrap("as it is") == "as it is"


def test_a_chat_template_is_text(tokenizer):
    wrapper = chat_wrapper(tokenizer)
    messages = [{"role": "user", "content": "Is snow white?"}]
    assert wrapper.wrap("Is snow white?") == tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert wrapper.name.startswith("chat-")


def test_a_start_token_of_the_template_is_not_doubled(tokenizer):
    question = Question("which city", ["rome", "oslo"])
    model = causal_model("rotary", len(tokenizer))
    protocol = find_protocol("lm_eval", wrapper="chat", tokenizer=tokenizer)
    (outcome,) = Engine(model, tokenizer).answer([question], protocol)
    ids = tokenizer("USER which city question answer")["input_ids"]
    assert ids.count(0) == 1
    expected = [
        naive_causal(model, ids, tokenizer(" " + c, add_special_tokens=False)["input_ids"])
        for c in question.choices
    ]
    assert outcome.scores == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        ("{{ messages[0]['content'] | upper }}", "changes or repeats"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "changes or repeats"),
        ("{{ messages[0]['content'] | replace('c', 'k') }}", "changes or repeats"),
    ],
)
def test_templates_that_are_not_around_a_message(tokenizer, template, message):
    tokenizer.chat_template = template
    with pytest.raises(MetroFastError, match=message):
        chat_wrapper(tokenizer)


def test_the_wrapper_belongs_to_the_identity(tokenizer):
    wrapped = [find_protocol("lm_eval", wrapper=name) for name in WRAPPERS]
    wrapped.append(find_protocol("lm_eval", wrapper="chat", tokenizer=tokenizer))
    assert len({protocol.sha256 for protocol in wrapped}) == len(WRAPPERS) + 1
    assert wrapped[0] == PROTOCOLS["lm_eval"]
    assert wrapped[1].name == "lm_eval+alpaca"


def test_unknown_names():
    with pytest.raises(MetroFastError, match="the protocol is 'mmlu'; give one of metro_t0, t0"):
        find_protocol("mmlu")
    with pytest.raises(MetroFastError, match="the wrapper is 'llama'; give one of plain, alpaca"):
        find_protocol("t0", wrapper="llama")
    with pytest.raises(MetroFastError, match="give the tokenizer"):
        find_protocol("t0", wrapper="chat")

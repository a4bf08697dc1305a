"""Written answers: greedy generation, stop texts, and the label that a text names."""

from dataclasses import replace

import pytest
import torch

from metro_fast.errors import MetroFastError
from metro_fast.scoring import PROTOCOLS, Engine, match_label, normalized_text
from naive_scorer import WORDS, Question, causal_model, causal_tokenizer, naive_greedy

WORDS_ONCE = [word for word in WORDS if word != "A"]
QUESTIONS = [
    Question("which city is north of the river ?", WORDS_ONCE[:20]),
    Question("the dog sees", WORDS_ONCE[20:50]),
    Question("what is red", None),
    Question("cat", WORDS_ONCE),
]
PROTOCOL = replace(PROTOCOLS["generate_match"], max_new_tokens=7)


@pytest.mark.parametrize("kind", ["rotary", "learned"])
def test_a_causal_model_writes_what_a_naive_loop_writes(kind):
    tokenizer = causal_tokenizer(WORDS)
    model = causal_model(kind, len(tokenizer))
    # A greedy answer must not depend on them, and `generate` of transformers would.
    model.generation_config.repetition_penalty = 9.0
    model.generation_config.do_sample = True
    outcomes = Engine(model, tokenizer).answer(QUESTIONS, PROTOCOL)
    for question, outcome in zip(QUESTIONS, outcomes, strict=True):
        ids = naive_greedy(model, tokenizer(question.input)["input_ids"], 7, ends=(1,))
        assert outcome.text == tokenizer.decode(ids, skip_special_tokens=True)
        assert outcome.scores is None
        if question.choices is None:
            assert outcome.prediction == -1
        else:
            assert outcome.prediction == match_label(outcome.text, question.choices)
    assert len({outcome.text for outcome in outcomes}) == len(QUESTIONS)


def test_an_encoder_decoder_writes_what_a_naive_loop_writes(tiny_t5, tiny_tokenizer):
    questions = [question._replace(choices=None) for question in QUESTIONS]
    outcomes = Engine(tiny_t5, tiny_tokenizer).answer(questions, PROTOCOL)
    for question, outcome in zip(questions, outcomes, strict=True):
        source = torch.tensor([tiny_tokenizer(question.input)["input_ids"]])
        ids = [0]
        while len(ids) < 8 and ids[-1] != 1:
            with torch.no_grad():
                logits = tiny_t5(input_ids=source, decoder_input_ids=torch.tensor([ids])).logits
            ids.append(int(logits[0, -1].argmax()))
        assert outcome.text == tiny_tokenizer.decode(ids[1:], skip_special_tokens=True)


@pytest.mark.parametrize("max_batch_tokens", [1, 10**6])
def test_an_answer_ends_before_a_stop_text(max_batch_tokens):
    tokenizer = causal_tokenizer(WORDS)
    model = causal_model("rotary", len(tokenizer))
    engine = Engine(model, tokenizer, max_batch_tokens=max_batch_tokens)
    (whole,) = engine.answer(QUESTIONS[:1], PROTOCOL)
    stop = whole.text.split()[1]
    lengths = []
    model.register_forward_hook(lambda *call: lengths.append(1))
    (outcome,) = engine.answer(QUESTIONS[:1], replace(PROTOCOL, stop=(stop, "never written")))
    assert outcome.text == whole.text[: whole.text.index(stop)]
    assert len(lengths) < 7


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("Yes", ["no", "yes"], 1),
        (' "Yes!?." it is', ["no", "yes"], 1),
        ("article", ["a", "b"], -1),
        ("An article about B.", ["a", "b"], 1),
        ("ii", ["i", "ii"], 1),
        ("(ii) because", ["i", "ii"], 1),
        ("not entailment", ["entailment", "not entailment"], 1),
        ("it is not entailment", ["entailment", "not entailment"], 1),
        ("either cat or dog", ["dog", "cat"], 1),
        ("Cause-Effect(e2,e1)", ["Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)"], 1),
        ("The relation is Cause-Effect(e2,e1).",
         ["Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Other"], 1),
        ("ＹＥＳ", ["no", "yes"], 1),  # noqa: RUF001
        ("", ["no", "yes"], -1),
        ("maybe", ["no", "yes"], -1),
        # Written by SmolLM2-135M-Instruct for answers C, B and another relation.
        ("The answer is a number: C", ["A", "B", "C", "D"], 2),
        ("This is a question about B.", ["A", "B", "C", "D"], 1),
        ("Other-Agency(e2", ["Other", "Instrument-Agency(e2,e1)"], -1),
        ("A truck is the newest.", ["A", "B"], -1),
        ("A. The truck", ["A", "B"], 0),
        ("a", ["A", "B"], 0),
        ("the answer: d", ["A", "B", "C", "D"], 3),
        ("I think it is Other", ["Other", "Part-Whole"], 0),
    ],
)  # fmt: skip
def test_match_label(text, labels, expected):
    assert match_label(text, labels) == expected


def test_labels_that_no_text_can_name():
    with pytest.raises(MetroFastError, match=r"labels 'Yes' and 'yes\.' are equal"):
        match_label("yes", ["Yes", "yes."])
    with pytest.raises(MetroFastError, match=r"label '\.' is empty"):
        match_label("yes", ["yes", "."])


def test_normalized_text():
    assert normalized_text("  <The  Cat>.\n") == "the cat"

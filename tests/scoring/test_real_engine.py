"""The engine on a real instruction-tuned model; `make real-model` fetches it."""

from dataclasses import replace
from typing import Any

import pytest

from metro_fast.scoring import Engine, find_protocol
from naive_scorer import Question, naive_causal

pytestmark = pytest.mark.slow  # 135 million parameters on one thread


def test_scores_and_answers_of_a_chat_model(real_model: Any) -> None:
    model, tokenizer = real_model
    questions = [
        Question("What is the capital of France?", ["London", "Paris", "the city of Rome"]),
        Question("Is ice hot or cold? Answer with one word.", ["hot", "cold"]),
    ]
    engine = Engine(model, tokenizer)
    scoring = find_protocol("lm_eval", wrapper="chat", tokenizer=tokenizer)
    for question, outcome in zip(questions, engine.answer(questions, scoring), strict=True):
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": question.input}], tokenize=False,
            add_generation_prompt=True,
        )  # fmt: skip
        # The line break at the end of the template belongs to the answer, as in lm-eval.
        start = tokenizer(chat.rstrip(), add_special_tokens=False)["input_ids"]
        expected = [
            naive_causal(model, start, tokenizer(chat + choice)["input_ids"][len(start) :])
            for choice in question.choices
        ]
        assert outcome.scores == pytest.approx(expected, abs=1e-4)
    writing = find_protocol("generate_match", wrapper="chat", tokenizer=tokenizer)
    outcomes = engine.answer(questions, replace(writing, max_new_tokens=12, stop=("\n",)))
    assert outcomes[0].text == "The capital of France is Paris."
    # It answers "ice", which is not among the choices, and none is drawn at random for it.
    assert [outcome.prediction for outcome in outcomes] == [1, -1], outcomes

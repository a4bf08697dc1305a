"""The `lm_eval` protocol against lm-eval's own `hf` model, which is another implementation."""

import pytest
import torch

from metro_fast.scoring import PROTOCOLS, Engine
from naive_scorer import WORDS, causal_model, causal_tokenizer, make_questions

huggingface = pytest.importorskip(
    "lm_eval.models.huggingface", reason="lm_eval (0.4.13) is not installed"
)


def lm_eval_scores(model, tokenizer, backend, questions, *, start=None):
    """The log-likelihood of " " + choice, as lm-eval's multiple-choice tasks ask for it."""
    from lm_eval.api.instance import Instance

    peer = huggingface.HFLM(
        pretrained=model, tokenizer=tokenizer, backend=backend, batch_size=4, device="cpu",
        add_bos_token=start,
    )  # fmt: skip
    requests = [
        Instance("loglikelihood", {}, (question.input, " " + choice), 0)
        for question in questions
        for choice in question.choices
    ]
    values = iter(peer.loglikelihood(requests, disable_tqdm=True))
    return [[next(values)[0] for _ in question.choices] for question in questions]


def check(model, tokenizer, backend, questions, **options):
    expected = lm_eval_scores(model, tokenizer, backend, questions, **options)
    outcomes = Engine(model, tokenizer).answer(questions, PROTOCOLS["lm_eval"])
    for outcome, row in zip(outcomes, expected, strict=True):
        assert outcome.scores == pytest.approx(row, abs=1e-4)
        assert outcome.prediction == max(range(len(row)), key=row.__getitem__)
    assert len({outcome.prediction for outcome in outcomes}) > 1


@pytest.mark.parametrize("kind", ["rotary", "learned"])
@pytest.mark.parametrize("start", [True, False])
def test_causal_models(kind, start):
    tokenizer = causal_tokenizer(WORDS, start=start)
    tokenizer.pad_token = "</s>"
    model = causal_model(kind, len(tokenizer))
    questions = make_questions(20)
    # White space at the end of an input moves to the choice, in both.
    questions[3] = questions[3]._replace(input=questions[3].input + " ")
    check(model, tokenizer, "causal", questions, start=start)


def test_t5(tiny_t5, tiny_tokenizer):
    check(tiny_t5, tiny_tokenizer, "seq2seq", make_questions(20))


def test_inputs_that_both_cut(tiny_t5, tiny_tokenizer):
    tokenizer = causal_tokenizer(WORDS, start=False)
    tokenizer.pad_token = "</s>"
    # lm-eval cuts each input by the length of its own choice, so equal lengths cut equally.
    questions = [
        question._replace(choices=[" ".join(c.split()[:1]) for c in question.choices])
        for question in make_questions(12, longest=120)
    ]
    model = causal_model("learned", len(tokenizer))
    assert any(len(tokenizer(q.input)["input_ids"]) > 65 for q in questions)
    check(model, tokenizer, "causal", questions)
    tiny_t5.config.n_positions = 20
    check(tiny_t5, tiny_tokenizer, "seq2seq", questions)


def test_mutual_information(tiny_t5, tiny_tokenizer):
    from dataclasses import replace

    questions = make_questions(8)
    alone = lm_eval_scores(
        tiny_t5, tiny_tokenizer, "seq2seq", [q._replace(input="") for q in questions]
    )
    given = lm_eval_scores(tiny_t5, tiny_tokenizer, "seq2seq", questions)
    protocol = replace(PROTOCOLS["lm_eval"], normalization="pmi")
    outcomes = Engine(tiny_t5, tiny_tokenizer).answer(questions, protocol)
    for outcome, first, second in zip(outcomes, given, alone, strict=True):
        expected = torch.tensor(first) - torch.tensor(second)
        assert outcome.scores == pytest.approx(expected.tolist(), abs=1e-4)

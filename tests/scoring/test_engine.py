"""The engine against naive scorers: both kinds of models, every protocol, any batching."""

import logging
import random
from dataclasses import fields, replace

import pytest
import torch

from metro_fast.errors import MetroFastError
from metro_fast.scoring import PROTOCOLS, WRAPPERS, Engine, Outcome, Protocol, Wrapper
from metro_fast.scoring.normalization import normalized
from naive_scorer import (
    WORDS,
    Question,
    causal_model,
    causal_tokenizer,
    make_questions,
    naive_causal,
    naive_encoder_decoder,
)


@pytest.fixture(scope="module")
def words() -> "object":
    return causal_tokenizer(WORDS)


@pytest.fixture(scope="module", params=["rotary", "learned"])
def causal(request, words):
    return causal_model(request.param, len(words))


def expected_causal(model, tokenizer, question, protocol):
    """lm-eval's `_encode_pair`, then the naive scorer."""
    start = tokenizer(question.input, add_special_tokens=protocol.special_tokens)["input_ids"]
    scores = []
    for choice in question.choices:
        whole = tokenizer(
            question.input + " " + choice, add_special_tokens=protocol.special_tokens
        )["input_ids"]
        end = [tokenizer.eos_token_id] if protocol.target_end else []
        scores.append(naive_causal(model, start, whole[len(start) :] + end))
    return scores


def assert_close(outcomes, expected, tolerance=1e-4):
    assert len(outcomes) == len(expected)
    for outcome, row in zip(outcomes, expected, strict=True):
        assert outcome.scores == pytest.approx(row, abs=tolerance)
        assert outcome.prediction == max(range(len(row)), key=row.__getitem__)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["lm_eval", "metro_t0", "t0"])
def test_causal_models_equal_the_naive_scorer(causal, words, name, side):
    questions = make_questions(16)
    outcomes = Engine(causal, words, padding_side=side).answer(questions, PROTOCOLS[name])
    assert_close(outcomes, [expected_causal(causal, words, q, PROTOCOLS[name]) for q in questions])
    assert len({outcome.prediction for outcome in outcomes}) > 1


def test_a_sliding_window_is_not_spent_on_padding(words):
    model = causal_model("sliding", len(words))
    questions = make_questions(16)
    outcomes = Engine(model, words).answer(questions, PROTOCOLS["lm_eval"])
    expected = [expected_causal(model, words, q, PROTOCOLS["lm_eval"]) for q in questions]
    assert_close(outcomes, expected)
    with pytest.raises(MetroFastError, match="uses up the model's sliding window"):
        Engine(model, words, padding_side="right")
    with pytest.raises(MetroFastError, match="padding_side is 'middle'"):
        Engine(model, words, padding_side="middle")


@pytest.mark.parametrize("max_batch_tokens", [1, 60, 10**6])
def test_batches_do_not_matter(causal, words, tiny_t5, tiny_tokenizer, max_batch_tokens):
    questions = make_questions(16)
    for model, tokenizer in ((causal, words), (tiny_t5, tiny_tokenizer)):
        expected = Engine(model, tokenizer).answer(questions, PROTOCOLS["t0"])
        engine = Engine(model, tokenizer, max_batch_tokens=max_batch_tokens)
        got = engine.answer(questions, PROTOCOLS["t0"])
        assert_close(got, [outcome.scores for outcome in expected])


def test_alone_every_prompt_has_the_same_bits_in_any_shard(causal, words, tiny_t5, tiny_tokenizer):
    questions = make_questions(9)
    order = list(range(9))
    random.Random(1).shuffle(order)
    for model, tokenizer in ((causal, words), (tiny_t5, tiny_tokenizer)):
        engine = Engine(model, tokenizer, max_batch_tokens=1)
        whole = engine.answer(questions, PROTOCOLS["t0"])
        for shard in (order[:4], order[4:]):
            part = engine.answer([questions[i] for i in shard], PROTOCOLS["t0"])
            assert part == [whole[i] for i in shard]


@pytest.mark.parametrize("name", ["metro_t0", "t0", "lm_eval"])
def test_encoder_decoders_equal_the_naive_scorer(tiny_t5, tiny_tokenizer, name):
    protocol = PROTOCOLS[name]
    questions = make_questions(16)
    expected = []
    for question in questions:
        source = tiny_tokenizer(question.input, add_special_tokens=protocol.special_tokens)
        expected.append([
            naive_encoder_decoder(
                tiny_t5,
                source["input_ids"],
                tiny_tokenizer(choice, add_special_tokens=protocol.target_end)["input_ids"],
            )
            for choice in question.choices
        ])  # fmt: skip
    outcomes = Engine(tiny_t5, tiny_tokenizer).answer(questions, protocol)
    assert_close(outcomes, expected)
    assert len({outcome.prediction for outcome in outcomes}) > 1


def test_one_token_choices_need_one_call(causal, words, tiny_t5, tiny_tokenizer):
    questions = [Question("which city is north ?", ["paris", "rome", "oslo"])]
    for model, tokenizer in ((causal, words), (tiny_t5, tiny_tokenizer)):
        calls = []
        hook = model.register_forward_hook(lambda *call, seen=calls: seen.append(call[2].logits))
        (outcome,) = Engine(model, tokenizer).answer(questions, PROTOCOLS["lm_eval"])
        hook.remove()
        assert [logits.shape[:2] for logits in calls] == [(1, 1)]
        ids = tokenizer([" paris", " rome", " oslo"], add_special_tokens=False)["input_ids"]
        logits = calls[0][0, 0]
        expected = logits.log_softmax(-1)[[row[0] for row in ids]]
        assert outcome.scores == pytest.approx(expected.tolist(), abs=1e-5)


def test_shared_prefixes_of_choices_are_read_once(tiny_t5, tiny_tokenizer):
    stem = "the capital city of the country in the north is"
    choices = [f"{stem} {city}" for city in ("paris", "rome", "oslo")]
    read = []
    hook = tiny_t5.register_forward_hook(lambda *call: read.append(call[2].logits.shape[:2]))
    Engine(tiny_t5, tiny_tokenizer).answer([Question("yes", choices)], PROTOCOLS["t0"])
    hook.remove()
    positions = sum(rows * tokens for rows, tokens in read)
    # The start token, the ten words of the stem, and the three cities.
    assert positions == 1 + 10 + 3


class TestProtocols:
    def score(self, model, tokenizer, question, protocol):
        return Engine(model, tokenizer).answer([question], protocol)[0]

    def test_normalizations(self, causal, words):
        question = Question("which city ?", ["the city of rome", "oslo", "paris in the south"])
        protocol = PROTOCOLS["lm_eval"]
        sums = expected_causal(causal, words, question, protocol)
        alone = [
            naive_causal(causal, [0], words(" " + choice, add_special_tokens=False)["input_ids"])
            for choice in question.choices
        ]
        expected = {
            "sum": sums,
            "mean": [s / n for s, n in zip(sums, (4, 1, 4), strict=True)],
            "char": [s / n for s, n in zip(sums, (16, 4, 18), strict=True)],
            "byte": [s / n for s, n in zip(sums, (16, 4, 18), strict=True)],
            "pmi": [s - a for s, a in zip(sums, alone, strict=True)],
        }
        for name, row in expected.items():
            outcome = self.score(causal, words, question, replace(protocol, normalization=name))
            assert outcome.scores == pytest.approx(row, abs=1e-4)

    def test_bytes_are_those_of_utf8(self):
        row = normalized([-6.0], "byte", texts=["é€a"], token_counts=[2])
        assert row == (-1.0,)

    def test_letters(self, tiny_t5, tiny_tokenizer):
        # The tiny vocabulary has "a" only, so that every letter is unknown but they are tokens.
        outcome = self.score(
            tiny_t5, tiny_tokenizer, Question("yes", ["dog", "cat"]), PROTOCOLS["mmlu_letters"]
        )
        unknown = naive_encoder_decoder(tiny_t5, tiny_tokenizer("yes")["input_ids"], [2, 1])
        assert outcome.scores == pytest.approx([unknown] * 2, abs=1e-4)
        assert outcome.tied
        assert outcome.prediction == 0

    def test_letters_of_a_causal_model(self, causal, words):
        question = Question("which ?", ["dog", "cat", "bird"])
        by_letter = expected_causal(
            causal, words, Question("which ?", ["A", "B", "C"]), PROTOCOLS["mmlu_letters"]
        )
        outcome = self.score(causal, words, question, PROTOCOLS["mmlu_letters"])
        assert outcome.scores == pytest.approx(by_letter, abs=1e-4)
        # QLoRA compares the logits of "A", "B" and "C" after the input, tokenized on their own.
        ids = words("which ?")["input_ids"]
        letters = [words(name, add_special_tokens=False)["input_ids"][0] for name in "ABC"]
        with torch.no_grad():
            logits = causal(input_ids=torch.tensor([ids])).logits[0, -1, letters]
        outcome = self.score(causal, words, question, PROTOCOLS["mmlu_argmax"])
        assert outcome.prediction == int(logits.argmax())
        differences = torch.tensor(outcome.scores) - logits
        assert differences.tolist() == pytest.approx([differences[0].item()] * 3, abs=1e-4)

    def test_first_tokens_must_differ(self, causal, words):
        protocol = replace(PROTOCOLS["mmlu_argmax"], letters=False)
        with pytest.raises(
            MetroFastError, match="'the cat' and 'the dog' are equal in their first"
        ):
            self.score(causal, words, Question("which ?", ["the cat", "the dog"]), protocol)

    def test_margins_and_ties(self):
        assert Outcome(0, (-1.0, -1.0, -3.0)).tied
        assert Outcome(0, (-1.0, -1.5)).margin == 0.5
        assert Outcome(-1, None, "text").margin is None

    def test_identity_covers_every_field_but_the_names(self):
        base = PROTOCOLS["t0"]
        others = [
            replace(base, special_tokens=True), replace(base, target_end=False),
            replace(base, normalization="pmi"), replace(base, letters=True),
            replace(base, first_token=True, target_end=False), replace(base, separator=""),
            replace(base, wrapper=WRAPPERS["vicuna"]), replace(base, max_input_tokens=9),
            replace(base, max_target_tokens=9), replace(base, truncation_side="left"),
            replace(base, generate=True), replace(base, max_new_tokens=9),
            replace(base, stop=(".",)),
        ]  # fmt: skip
        assert len({p.sha256 for p in (base, *others)}) == len(others) + 1
        assert replace(base, name="other").sha256 == base.sha256
        assert {f.name for f in fields(Protocol)} == {"name", *base.identity}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"normalization": "log"}, "normalization is 'log'"),
            ({"truncation_side": "middle"}, "truncation_side is 'middle'"),
            ({"max_new_tokens": 0}, "max_new_tokens is 0"),
            ({"first_token": True}, "first_token leaves no end token"),
            ({"generate": True, "normalization": "pmi"}, "generate gives no scores"),
            ({"stop": ("",)}, "stop is"),
        ],
    )
    def test_contradictions(self, change, message):
        with pytest.raises(MetroFastError, match=message):
            replace(PROTOCOLS["t0"], **change)


class TestCuts:
    text = "one two three four red green blue"

    @pytest.mark.parametrize(("side", "kept"), [("right", [0, 1, 2]), ("left", [4, 5, 6])])
    def test_from_a_named_side(self, tiny_t5, tiny_tokenizer, side, kept):
        protocol = replace(PROTOCOLS["metro_t0"], max_input_tokens=4, truncation_side=side)
        question = Question(self.text, ["yes", "no"])
        (outcome,) = Engine(tiny_t5, tiny_tokenizer).answer([question], protocol)
        ids = tiny_tokenizer(self.text)["input_ids"]
        source = [ids[place] for place in kept] + [1]
        expected = [
            naive_encoder_decoder(tiny_t5, source, tiny_tokenizer(choice)["input_ids"])
            for choice in question.choices
        ]
        assert_close([outcome], [expected])
        assert outcome.cut_tokens == 4

    def test_a_wrapper_stays_whole(self, causal, words):
        wrapper = Wrapper("ask", "question ", " answer", " ")
        protocol = replace(
            PROTOCOLS["t0"], wrapper=wrapper, special_tokens=True, max_input_tokens=5,
            truncation_side="left",
        )  # fmt: skip
        question = Question("one two three red green", ["yes", "no"])
        (outcome,) = Engine(causal, words).answer([question], protocol)
        assert outcome.cut_tokens == 3
        kept = Question("question red green answer", question.choices)
        assert_close([outcome], [expected_causal(causal, words, kept, protocol)])

    def test_a_choice_always_has_room(self, causal, words):
        text = " ".join(["red"] * 100)
        long = " ".join(["blue"] * 20)
        question = Question(text, [long, "no"])
        (outcome,) = Engine(causal, words).answer([question], PROTOCOLS["lm_eval"])
        # 64 positions, and the last token of a choice is not read.
        start = words(text)["input_ids"]
        kept = [0, *start[-(64 + 1 - 20 - 1) :]]
        expected = [
            naive_causal(causal, kept, words(" " + c, add_special_tokens=False)["input_ids"])
            for c in question.choices
        ]
        assert_close([outcome], [expected])
        assert outcome.cut_tokens == len(start) - len(kept)

    def test_too_long_a_choice(self, causal, words):
        question = Question("yes", [" ".join(["blue"] * 70), "no"])
        with pytest.raises(MetroFastError, match="reads 64 tokens at once, and an answer may have"):
            Engine(causal, words).answer([question], PROTOCOLS["lm_eval"])

    def test_lost_options_are_counted(self, tiny_t5, tiny_tokenizer, caplog):
        protocol = replace(PROTOCOLS["metro_t0"], max_input_tokens=4)
        questions = [
            Question("choose between red and blue", ["red", "blue"]),
            Question("the cat sees a dog", ["red", "blue"]),
        ]
        with caplog.at_level(logging.WARNING, logger="metro_fast"):
            Engine(tiny_t5, tiny_tokenizer).answer(questions, protocol)
        assert "2 of 2 inputs" in caplog.text
        assert "1 of them lost the text of a choice" in caplog.text

    def test_choices_that_a_cut_makes_equal(self, tiny_t5, tiny_tokenizer):
        protocol = replace(PROTOCOLS["metro_t0"], max_target_tokens=3)
        with pytest.raises(MetroFastError, match="to which they were cut"):
            Engine(tiny_t5, tiny_tokenizer).answer(
                [Question("yes", ["the cat sees", "the cat eats"])], protocol
            )

    def test_no_room_for_the_input(self, tiny_t5, tiny_tokenizer):
        protocol = replace(PROTOCOLS["metro_t0"], max_input_tokens=1)
        with pytest.raises(MetroFastError, match="leave no room for the input"):
            Engine(tiny_t5, tiny_tokenizer).answer([Question("the cat", ["yes"])], protocol)

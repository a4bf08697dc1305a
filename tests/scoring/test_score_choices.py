"""score_choices against one forward per pair, upstream's golden scores, and its invariances."""

import json
import logging
import random
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metro_fast.errors import MetroFastError
from metro_fast.scoring import (
    PROTOCOLS,
    accuracy,
    margins,
    predictions,
    score_choices,
    target_log_probs,
    tie_count,
)

CHOICES = ["yes", "no", "the capital of france", "red cat", "oslo flows in norway . yes"]
INPUT_WORDS = "the cat sees a dog in paris which city is north of rome ? red fish river"
PER_INPUT = [CHOICES[:2], CHOICES[1:], CHOICES, ["dog", "bird"], CHOICES[2:3]]


def make_inputs(count: int, seed: int = 0) -> list[str]:
    words = [
        "the",
        "cat",
        "sees",
        "a",
        "dog",
        "in",
        "paris",
        "which",
        "city",
        "is",
        "north",
        "of",
        "rome",
        "?",
        "red",
        "fish",
        "river",
    ]
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=draw.randint(1, 25))) for _ in range(count)]


def score_naively(model, tokenizer, inputs, choices, *, special_tokens=True):
    """One whole forward per (input, choice), without padding and without sharing."""
    scores = []
    with torch.no_grad():
        for text, row in zip(inputs, choices, strict=True):
            source = tokenizer(text, add_special_tokens=special_tokens)["input_ids"]
            scores.append([])
            for choice in row:
                labels = torch.tensor([tokenizer(choice)["input_ids"]])
                logits = model(input_ids=torch.tensor([source]), labels=labels).logits
                chosen = torch.log_softmax(logits[0], -1).gather(1, labels[0].unsqueeze(1))
                scores[-1].append(chosen.sum().item())
    return scores


def assert_close(got, expected, tolerance=1e-4):
    assert [len(row) for row in got] == [len(row) for row in expected]
    for row, expected_row in zip(got, expected, strict=True):
        assert row == pytest.approx(expected_row, abs=tolerance)


@pytest.mark.parametrize(("preset", "special_tokens"), [("metro_t0", True), ("t0", False)])
def test_equals_the_naive_scorer(tiny_t5, tiny_tokenizer, preset, special_tokens):
    inputs = make_inputs(12)
    scores = score_choices(tiny_t5, tiny_tokenizer, inputs, CHOICES, preset=preset)
    expected = score_naively(
        tiny_t5, tiny_tokenizer, inputs, [CHOICES] * 12, special_tokens=special_tokens
    )
    assert_close(scores, expected)
    assert predictions(scores) == predictions(expected)
    assert len(set(predictions(scores))) > 1  # a constant answer would agree by chance


def test_presets_differ(tiny_t5, tiny_tokenizer):
    inputs = make_inputs(4)
    first, second = (
        score_choices(tiny_t5, tiny_tokenizer, inputs, CHOICES, preset=p)
        for p in ("metro_t0", "t0")
    )
    assert first[0][0] != pytest.approx(second[0][0], abs=1e-2)


def test_choices_of_each_input(tiny_t5, tiny_tokenizer):
    inputs = make_inputs(5)
    scores = score_choices(tiny_t5, tiny_tokenizer, inputs, PER_INPUT)
    assert_close(scores, score_naively(tiny_t5, tiny_tokenizer, inputs, PER_INPUT))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 1000), max_batch_tokens=st.integers(1, 400))
def test_order_and_batching_do_not_matter(tiny_t5, tiny_tokenizer, seed, max_batch_tokens):
    inputs = make_inputs(10, seed)
    expected = score_choices(tiny_t5, tiny_tokenizer, inputs, CHOICES)
    order = list(range(10))
    random.Random(seed).shuffle(order)
    shuffled = score_choices(
        tiny_t5,
        tiny_tokenizer,
        [inputs[i] for i in order],
        CHOICES,
        max_batch_tokens=max_batch_tokens,
    )
    # Another batch rounds otherwise: 1.7e-5 is the largest difference that was seen here.
    assert_close(shuffled, [expected[i] for i in order], 1e-4)
    alone = score_choices(tiny_t5, tiny_tokenizer, inputs[:1], CHOICES)
    assert_close(alone, expected[:1], 1e-4)


def test_repeated_runs_are_bit_equal(tiny_t5, tiny_tokenizer):
    inputs = make_inputs(10)
    first = score_choices(tiny_t5, tiny_tokenizer, inputs, CHOICES)
    assert score_choices(tiny_t5, tiny_tokenizer, inputs, CHOICES) == first


def test_each_input_is_encoded_once(tiny_t5, tiny_tokenizer, monkeypatch):
    rows = []
    forward = tiny_t5.get_encoder().forward

    def count(*args, **kwargs):
        rows.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(tiny_t5.get_encoder(), "forward", count)
    score_choices(tiny_t5, tiny_tokenizer, make_inputs(9), CHOICES, max_batch_tokens=60)
    assert sum(rows) == 9
    assert len(rows) > 1


def test_logits_of_one_call_are_bounded(tiny_t5, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr("metro_fast.scoring.batches.MAX_LOGITS", 10 * len(tiny_tokenizer))
    sizes = []
    tiny_t5.lm_head.register_forward_hook(lambda *call: sizes.append(call[-1].shape[:2]))
    scores = score_choices(tiny_t5, tiny_tokenizer, make_inputs(4), CHOICES)
    assert max(pairs * length for pairs, length in sizes) <= 10
    expected = score_naively(tiny_t5, tiny_tokenizer, make_inputs(4), [CHOICES] * 4)
    assert_close(scores, expected)


def test_training_flags_and_gradients_are_left_alone(tiny_t5, tiny_tokenizer):
    tiny_t5.train()
    tiny_t5.get_encoder().eval()
    before = {name: module.training for name, module in tiny_t5.named_modules()}
    inputs = make_inputs(3)
    first = score_choices(tiny_t5, tiny_tokenizer, inputs, CHOICES)
    assert {name: module.training for name, module in tiny_t5.named_modules()} == before
    assert any(before.values())
    assert not all(before.values())
    # Dropout of .1 would show here.
    assert score_choices(tiny_t5, tiny_tokenizer, inputs, CHOICES) == first
    assert all(p.grad is None and p.requires_grad for p in tiny_t5.parameters())
    with pytest.raises(MetroFastError):
        score_choices(tiny_t5, tiny_tokenizer, inputs, [" "])
    assert {name: module.training for name, module in tiny_t5.named_modules()} == before


def test_bfloat16_scores_in_fp32(tiny_t5, tiny_tokenizer):
    inputs = make_inputs(6)
    expected = score_choices(tiny_t5, tiny_tokenizer, inputs, CHOICES)
    scores = score_choices(tiny_t5.bfloat16(), tiny_tokenizer, inputs, CHOICES)
    assert_close(scores, expected, 1.0)
    # bf16 sums would be multiples of 1/8 at this size.
    assert any(score * 8 != int(score * 8) for row in scores for score in row)


def test_peft_model(tiny_t5, tiny_tokenizer):
    peft = pytest.importorskip("peft")
    inputs = make_inputs(6)
    base = score_choices(tiny_t5, tiny_tokenizer, inputs, CHOICES)
    config = peft.LoraConfig(r=2, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
    torch.manual_seed(0)
    expert = peft.get_peft_model(tiny_t5, config)
    assert_close(score_choices(expert, tiny_tokenizer, inputs, CHOICES), base, 1e-5)
    with torch.no_grad():
        for name, parameter in expert.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    scores = score_choices(expert, tiny_tokenizer, inputs, CHOICES)
    expert.eval()
    assert_close(scores, score_naively(expert, tiny_tokenizer, inputs, [CHOICES] * 6))
    assert abs(scores[0][0] - base[0][0]) > 1e-2
    with expert.disable_adapter():
        assert_close(score_choices(expert, tiny_tokenizer, inputs, CHOICES), base, 1e-5)


@pytest.mark.parametrize(
    "options", [{"target_modules": ["shared", "q"]}, {"trainable_token_indices": [5, 6]}]
)
def test_an_adapter_on_the_embedding(tiny_t5, tiny_tokenizer, options):
    peft = pytest.importorskip("peft")
    inputs = make_inputs(3)
    base = score_choices(tiny_t5, tiny_tokenizer, inputs, CHOICES)
    config = peft.LoraConfig(r=2, task_type="SEQ_2_SEQ_LM", **{"target_modules": ["q"], **options})
    expert = peft.get_peft_model(tiny_t5, config)
    assert_close(score_choices(expert, tiny_tokenizer, inputs, CHOICES), base, 1e-5)


def test_prompt_tuning_is_refused(tiny_t5, tiny_tokenizer):
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="SEQ_2_SEQ_LM")
    expert = peft.get_peft_model(tiny_t5, config)
    with pytest.raises(MetroFastError, match="virtual tokens"):
        score_choices(expert, tiny_tokenizer, ["yes"], CHOICES)


def test_long_inputs_are_cut_and_counted(tiny_t5, tiny_tokenizer, caplog):
    text = "the cat sees a dog"
    with caplog.at_level(logging.WARNING, logger="metro_fast"):
        scores = score_choices(tiny_t5, tiny_tokenizer, [text, "yes"], CHOICES, max_input_length=4)
    assert "1 of 2 inputs are longer than 4 tokens" in caplog.text
    expected = score_naively(tiny_t5, tiny_tokenizer, ["the cat sees", "yes"], [CHOICES] * 2)
    assert_close(scores, expected)


class TestBadInput:
    @pytest.mark.parametrize(
        ("inputs", "choices", "message"),
        [
            ([], CHOICES, "inputs is empty"),
            (["yes"], [], "choices is empty"),
            (["yes"], [[]], "input 0 has no choices"),
            (["yes", "no"], [["a"]], "1 lists for 2 inputs"),
            (["yes"], ["yes", ""], "choice '' has no tokens besides the end token"),
        ],
    )
    def test_nothing_to_score(self, tiny_t5, tiny_tokenizer, inputs, choices, message):
        with pytest.raises(MetroFastError, match=message):
            score_choices(tiny_t5, tiny_tokenizer, inputs, choices)

    @pytest.mark.parametrize(
        ("inputs", "choices"),
        [
            ("yes", CHOICES),
            (["yes"], "yes"),
            ([b"yes"], CHOICES),
            (["yes"], ["yes", ["no"]]),
            (["yes"], [["yes", 1]]),
        ],
    )
    def test_wrong_types(self, tiny_t5, tiny_tokenizer, inputs, choices):
        with pytest.raises(TypeError):
            score_choices(tiny_t5, tiny_tokenizer, inputs, choices)

    def test_an_input_without_tokens(self, tiny_t5, tiny_tokenizer):
        with pytest.raises(MetroFastError, match=r"input 1 \(''\) has no tokens"):
            score_choices(tiny_t5, tiny_tokenizer, ["yes", ""], CHOICES, preset="t0")

    @pytest.mark.parametrize(
        "argument", ["max_input_length", "max_target_length", "max_batch_tokens"]
    )
    def test_limits(self, tiny_t5, tiny_tokenizer, argument):
        with pytest.raises(MetroFastError, match=f"{argument} is 0"):
            score_choices(tiny_t5, tiny_tokenizer, ["yes"], CHOICES, **{argument: 0})

    def test_unknown_preset(self, tiny_t5, tiny_tokenizer):
        with pytest.raises(MetroFastError, match="preset is 'mmlu'; give one of metro_t0, t0"):
            score_choices(tiny_t5, tiny_tokenizer, ["yes"], CHOICES, preset="mmlu")

    def test_ids_out_of_the_vocabulary(self, tiny_t5, tiny_tokenizer):
        tiny_t5.resize_token_embeddings(40)
        with pytest.raises(MetroFastError, match="the model has 40 embeddings"):
            score_choices(tiny_t5, tiny_tokenizer, ["option"], CHOICES)

    def test_a_tokenizer_without_end_token(self, tiny_t5, tiny_tokenizer):
        from tokenizers import processors

        backend = type(tiny_tokenizer.backend_tokenizer).from_str(
            tiny_tokenizer.backend_tokenizer.to_str()
        )
        backend.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
        tokenizer = type(tiny_tokenizer)(tokenizer_object=backend, eos_token="</s>")
        with pytest.raises(MetroFastError, match="does not end in its eos_token"):
            score_choices(tiny_t5, tokenizer, ["yes"], CHOICES)

    def test_half_precision_is_refused(self, tiny_t5, tiny_tokenizer):
        with pytest.raises(MetroFastError, match="float16"):
            score_choices(tiny_t5.half(), tiny_tokenizer, ["yes"], CHOICES)

    def test_a_protocol_without_scores(self, tiny_t5, tiny_tokenizer):
        with pytest.raises(MetroFastError, match="'generate_match' lets the model write"):
            score_choices(
                tiny_t5, tiny_tokenizer, ["yes"], CHOICES, preset=PROTOCOLS["generate_match"]
            )

    def test_damaged_weights(self, tiny_t5, tiny_tokenizer):
        with torch.no_grad():
            tiny_t5.lm_head.weight.fill_(float("nan"))
        with pytest.raises(MetroFastError, match="input 0, choice 0 is NaN"):
            score_choices(tiny_t5, tiny_tokenizer, ["yes"], CHOICES)


class TestTargetLogProbs:
    def test_upstream_golden_scores(self, golden_folder: Path) -> None:
        from safetensors.torch import load_file

        golden = json.loads((golden_folder / "t0_eval.json").read_text())
        tensors = load_file(golden_folder / "t0_eval.safetensors")
        for group in golden["groups"]:
            scores = []
            for question in range(len(group["targets"])):
                prefix = f"{group['group']}.q{question}."
                values = target_log_probs(
                    tensors[prefix + "logits"],
                    tensors[prefix + "labels"].long(),
                    tensors[prefix + "labels_attention_mask"].bool(),
                )
                scores.append(values.tolist())
            assert_close(scores, group["scores"])
            assert predictions(scores) == group["predictions"]
            assert accuracy(scores, group["targets"]) == pytest.approx(group["accuracy"])

    def test_impossible_padding_does_not_give_nan(self):
        logits = torch.zeros(1, 2, 3)
        logits[0, 1, 0] = float("-inf")
        labels = torch.tensor([[1, 0]])
        assert target_log_probs(logits, labels, torch.tensor([[True, False]])).isfinite()
        assert target_log_probs(logits, labels, torch.tensor([[True, True]])) == float("-inf")

    def test_result_is_fp32(self):
        logits = torch.randn(2, 3, 5, dtype=torch.bfloat16)
        mask = torch.ones(2, 3, dtype=torch.bool)
        assert target_log_probs(logits, torch.zeros(2, 3).long(), mask).dtype == torch.float32

    def test_shapes(self):
        with pytest.raises(MetroFastError, match=r"\[N, T, V\]"):
            target_log_probs(torch.zeros(2, 3, 5), torch.zeros(2, 4).long(), torch.ones(2, 4))


class TestPredictions:
    def test_the_first_of_equal_scores_wins(self):
        assert predictions([[0.0, 1.0, 1.0], [2.0, 2.0]]) == [1, 0]
        assert tie_count([[0.0, 1.0, 1.0], [2.0, 2.0], [1.0, 0.0]]) == 2
        assert margins([[0.0, 1.0, 0.5], [float("-inf")] * 2]) == [0.5, 0.0]

    @pytest.mark.parametrize("function", [predictions, margins, tie_count])
    def test_bad_scores(self, function):
        with pytest.raises(MetroFastError, match="item 1 has no scores"):
            function([[1.0, 2.0], []])
        with pytest.raises(MetroFastError, match="item 0 has the score NaN"):
            function([[1.0, float("nan")]])

    def test_margins_need_two(self):
        with pytest.raises(MetroFastError, match="item 0 has 1 score"):
            margins([[1.0]])

    def test_accuracy_of_bad_input(self):
        with pytest.raises(MetroFastError, match="there are 1 rows of scores for 2 answers"):
            accuracy([[0.0, 1.0]], [0, 1])
        with pytest.raises(MetroFastError, match="no items"):
            accuracy([], [])
        with pytest.raises(MetroFastError, match="answer 2 is not the index of one of 2"):
            accuracy([[0.0, 1.0]], [2])

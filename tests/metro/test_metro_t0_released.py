"""METRO-T0's architecture against the released model: outputs, buckets, sizes, start."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from metro_fast.errors import MetroFastError
from metro_fast.metro import (
    MetroT0Config,
    MetroT0EncoderModel,
    MetroT0ForConditionalGeneration,
)
from metro_fast.metro.convert_metro_t0 import convert_metro_t0
from metro_fast.metro.modeling_metro_t0_layers import distance_buckets
from metro_t0_cases import PAD, metro_t0, metro_t0_config, released_files
from shared_files import shared_files


@pytest.fixture(params=shared_files("golden/hf_base", "golden/hf_large"))
def released(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The published model on random weights: its config, weights, and cases."""
    return released_files(request.param)


def released_model(released: dict[str, Any], **settings: Any) -> MetroT0ForConditionalGeneration:
    fields = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers")
    fields += ("num_heads", "relative_attention_num_buckets", "relative_attention_max_distance")
    described = {name: released["config"][name] for name in fields}
    attention = settings.pop("attention", "sdpa")
    model = MetroT0ForConditionalGeneration._from_config(
        MetroT0Config(**{**described, **settings}), attn_implementation=attention
    )
    loaded = model.load_state_dict(released["weights"], strict=False)
    assert not loaded.unexpected_keys
    assert set(loaded.missing_keys) == set(released["tied_aliases"])
    return model.eval()


def test_names_and_shapes_are_the_released_models(released) -> None:
    state = released_model(released).state_dict()
    shapes = {name: list(weight.shape) for name, weight in state.items()}
    assert shapes == released["hf_state_dict_shapes"]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_logits_loss_and_text_are_the_released_models(released, attention) -> None:
    model = released_model(released, attention=attention)
    for case in released["cases"]:
        expected = case["tensors"]
        batch = {name: expected[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            output = model(
                **batch,
                decoder_input_ids=expected["decoder_input_ids"],
                labels=expected["labels"],
            )
            shifted = model(**batch, labels=expected["labels"])
        tokens, scored = batch["attention_mask"].bool(), expected["labels"] != -100
        encoded = output.encoder_last_hidden_state
        torch.testing.assert_close(
            encoded[tokens], expected["encoder_output"][tokens], rtol=0, atol=1e-5
        )
        torch.testing.assert_close(
            output.logits[scored], expected["logits"][scored], rtol=0, atol=1e-5
        )
        assert output.loss.item() == pytest.approx(case["loss"], abs=1e-5)
        assert shifted.loss.item() == pytest.approx(case["loss_from_labels_only"], abs=1e-5)
        generated = model.generate(**batch, max_new_tokens=10, do_sample=False)
        assert generated.tolist() == case["generated"]


@pytest.mark.parametrize("path", shared_files("golden/hf_large"))
def test_the_released_converters_distance_gives_its_other_logits(path) -> None:
    """The published conversion leaves the distance at 128, where the large model has 256."""
    released = released_files(path)
    model = released_model(released, relative_attention_max_distance=128)
    case = released["cases"][1]["tensors"]
    with torch.no_grad():
        logits = model(
            input_ids=case["input_ids"],
            attention_mask=case["attention_mask"],
            decoder_input_ids=case["decoder_input_ids"],
        ).logits
    scored = case["labels"] != -100
    wrong = case["logits_as_converted_max_distance_128"]
    torch.testing.assert_close(logits[scored], wrong[scored], rtol=0, atol=1e-5)
    assert (logits - case["logits"])[scored].abs().max() > 0.5


def slow_buckets(num_buckets: int, max_distance: int, max_positions: int) -> list[int]:
    """COCO-LM's rule, one distance after the other, in fp32 as the published code."""
    half = num_buckets // 2
    exact = half // 2

    def signed(distance: int) -> int:
        size = abs(distance)
        if size >= exact:
            ratio = np.log(np.float32(size) / np.float32(exact))
            share = ratio / np.float32(math.log((max_distance - 1) / exact))
            size = min(half - 1, exact + int(np.ceil(share * np.float32(half - 1 - exact))))
        return -size if distance < 0 else size

    distances = range(1 - max_positions, max_positions)
    smallest = min(map(signed, distances))
    return [signed(distance) - smallest for distance in distances]


@pytest.mark.parametrize(
    ("buckets", "furthest", "positions"),
    [(32, 128, 1024), (128, 256, 1024), (16, 64, 300), (64, 200, 90), (8, 16, 6), (4, 9, 12)],
)
def test_buckets_follow_the_rule(buckets, furthest, positions) -> None:
    table = distance_buckets(buckets, furthest, positions)
    assert table.tolist() == slow_buckets(buckets, furthest, positions)
    assert table.min() == 0
    assert table.max() < buckets


@pytest.mark.parametrize("path", shared_files("golden/hf_rel_buckets.json"))
def test_buckets_are_the_released_models(path) -> None:
    content = json.loads(path.read_text())
    for table in content["tables"]:
        sizes = (table["num_buckets"], table["max_distance"], table["max_positions"])
        assert distance_buckets(*sizes).tolist() == table["bucket_by_d"], sizes
    small = content["small_max_positions"]
    n = small["max_positions"]
    by_distance = distance_buckets(small["num_buckets"], small["max_distance"], n)
    at = torch.arange(n)
    assert by_distance[at[None, :] - at[:, None] + n - 1].tolist() == small["table"]


@pytest.mark.parametrize(
    ("preset", "millions", "printed"),
    [("base", 225.6, 226), ("base++", 249.6, 256), ("large++", 773.6, 775)],
)
def test_parameter_counts(preset: str, millions: float, printed: int) -> None:
    """Those that the published code has; the paper prints 256 M for base++, which it does not."""
    with torch.device("meta"):
        model = MetroT0ForConditionalGeneration(MetroT0Config.preset(preset))
    found = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert found == pytest.approx(millions, abs=0.05)
    assert found == pytest.approx(printed, rel=0.03)


def test_weights_start_as_described() -> None:
    model = MetroT0ForConditionalGeneration(metro_t0_config(d_model=128, d_ff=512, vocab_size=999))
    block = model.encoder.block[0]
    linear = block.layer[1].DenseReluDense.wi
    assert linear.weight.std().item() == pytest.approx((1 / (128 + 512)) ** 0.5, rel=0.02)
    assert not linear.bias.any()
    assert not block.layer[0].SelfAttention.relative_attention_bias.weight.any()
    bound = (3 / (2 * 128)) ** 0.5
    for embedding in (model.shared, model.encoder.pos_embed):
        assert embedding.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert not embedding.weight[PAD].any()
    ids = torch.randint(4, 999, (4, 16))
    assert model(input_ids=ids, labels=ids).loss.item() < math.log(999) + 1


@pytest.mark.parametrize(("initializer", "std"), [("published", (1 / 1024) ** 0.5), ("bert", 0.02)])
def test_other_starts_of_linear_layers(initializer: str, std: float) -> None:
    config = metro_t0_config(d_model=128, d_ff=512, initializer=initializer)
    model = MetroT0EncoderModel(config)
    wi = model.encoder.block[1].layer[1].DenseReluDense.wi
    assert wi.weight.std().item() == pytest.approx(std, rel=0.02)


def by_fairseq_names(released: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights as fairseq names them, by equal values; its version marks included."""
    names = released["fairseq_to_hf_names_by_equal_value"]
    weights = released["weights"]
    found = {
        old: next(weights[name] for name in new if name in weights)
        for old, new in names.items()
        if new
    }
    return {**found, "encoder.version": torch.tensor([3.0]), "decoder.version": torch.tensor([3.0])}


def test_weights_by_fairseq_names_are_those_of_the_released_model(released) -> None:
    model = released_model(released)
    found = by_fairseq_names(released)
    assert {name: list(w.shape) for name, w in found.items()} == released[
        "fairseq_state_dict_shapes"
    ]
    for weights in (found, released["weights"]):
        converted = convert_metro_t0(weights, model.config)
        assert list(converted) == [name for name, _ in model.named_parameters()]
        for name, weight in converted.items():
            assert torch.equal(weight, model.get_parameter(name)), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encoder.layers.0.fc3.weight": torch.ones(2)},
            r"unknown weights \(1\): encoder.layers.0",
        ),
        ({"shared.weight": None}, r"missing weights \(1\): shared.weight"),
        ({"lm_head.weight": torch.ones(61, 32)}, r"lm_head.weight differs from shared.weight"),
        ({"decoder.pos_embed.weight": torch.ones(5, 32)}, r"shape \[5, 32\], expected \[42, 32\]"),
    ],
)
def test_weights_that_are_not_a_whole_model_are_refused(change, message) -> None:
    model = metro_t0()
    weights = {**dict(model.named_parameters()), **change}
    weights = {name: weight for name, weight in weights.items() if weight is not None}
    with pytest.raises(MetroFastError, match=message):
        convert_metro_t0(weights, model.config)

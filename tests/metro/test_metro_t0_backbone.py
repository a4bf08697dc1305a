"""METRO on METRO-T0's own architecture: shared weights, files, sizes, one update for any split."""

from collections import Counter
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from metro_cases import MetroCollator, Rows, metro_model, one_step
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroConfig, MetroForPretraining, MetroT0Config
from metro_t0_cases import metro_t0, ragged

MAIN = {"model_type": "metro_t0", "pad_token_id": 0, "max_position_embeddings": 40}
TOKEN = {"shared.weight", "encoder.embed_tokens.weight"}
POSITION = TOKEN | {"encoder.pos_embed.weight"}
NORM = POSITION | {"encoder.first_layer_norm.weight", "encoder.first_layer_norm.bias"}
SHARED = {"none": set(), "token": TOKEN, "token_pos": POSITION, "token_pos_norm": NORM}


def batch() -> dict[str, torch.Tensor]:
    rows = Rows()
    return MetroCollator()([rows[i] for i in range(3)])


def loss(model: MetroForPretraining, rows: dict[str, torch.Tensor]) -> torch.Tensor:
    output = model(**rows)
    return sum(part.sum / part.count for part in (output.mlm, output.lm, output.rtd))


@pytest.mark.parametrize("sharing", SHARED)
def test_what_is_shared(sharing: str) -> None:
    model = metro_model(main=MAIN, embedding_sharing=sharing)
    main = {id(parameter) for parameter in model.main.parameters()}
    auxiliary = model.auxiliary.named_parameters(remove_duplicate=False)
    assert {name for name, parameter in auxiliary if id(parameter) in main} == SHARED[sharing]


@pytest.mark.parametrize("sharing", [*SHARED, "disentangled"])
def test_saved_and_loaded_bit_for_bit_with_gradients_everywhere(sharing: str, tmp_path) -> None:
    model, rows = metro_model(main=MAIN, embedding_sharing=sharing).eval(), batch()
    model.save_pretrained(tmp_path)
    loaded = MetroForPretraining.from_pretrained(tmp_path)
    first, second = loss(model, rows), loss(loaded, rows)
    assert torch.equal(first, second)
    second.backward()
    assert [name for name, p in loaded.named_parameters() if p.grad is None] == []


def test_tables_of_distances_have_nothing_to_share() -> None:
    with pytest.raises(MetroFastError, match="embedding_sharing is 'token_rel_norm'"):
        MetroConfig(main=MAIN, embedding_sharing="token_rel_norm")


def test_shared_positions_need_equal_lengths() -> None:
    with pytest.raises(MetroFastError, match=r"auxiliary.max_position_embeddings is 8, .* 40"):
        MetroConfig(
            main=MAIN,
            auxiliary={"max_position_embeddings": 8},
            embedding_sharing="token_pos",
        )


def test_the_auxiliary_model_has_no_dropout() -> None:
    config = MetroConfig(main={**MAIN, "dropout_rate": 0.1})
    assert (config.main.attention_rate, config.auxiliary.attention_rate) == (0.1, 0.0)


def test_starts_from_a_model_of_this_architecture(tmp_path) -> None:
    source, rows = metro_t0(), ragged()
    source.save_pretrained(tmp_path / "source")
    model = MetroForPretraining.from_t5(
        tmp_path / "source",
        auxiliary_config={"num_layers": 1},
        embedding_sharing="token_pos_norm",
    ).eval()
    block = "block.0.layer.1.DenseReluDense.wi.weight"
    first = model.auxiliary.encoder.get_parameter(block)
    assert torch.equal(first, source.encoder.get_parameter(block))
    model.save_main(tmp_path / "main")
    saved = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "main")
    with torch.no_grad():
        expected = source(**rows).logits
        assert torch.equal(model.main(**rows).logits, expected)
        assert torch.equal(saved(**rows).logits, expected)
    inputs = {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]}
    generated = model.generate(**inputs, max_new_tokens=4)
    assert torch.equal(generated, source.generate(**inputs, max_new_tokens=4))


@pytest.mark.parametrize(
    ("preset", "depth", "millions"),
    [("base", 4, 255.2), ("base++", 4, 279.2), ("large++", 6, 851.4)],
)
def test_parameter_counts_of_pretraining(preset: str, depth: int, millions: float) -> None:
    """Those of the published code, which shares positions too and detects with a deep head."""
    with torch.device("meta"):
        model = MetroForPretraining(
            MetroConfig(
                main=MetroT0Config.preset(preset),
                auxiliary={"num_layers": depth},
                embedding_sharing="token_pos_norm",
                rtd_head_kind="deep",
            )
        )
    found = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert found == pytest.approx(millions, abs=0.05)


def test_first_losses_are_those_of_uniform_guesses() -> None:
    torch.manual_seed(0)
    main = {**MAIN, "vocab_size": 2048, "d_model": 256, "d_ff": 512, "num_heads": 4}
    model = MetroForPretraining(
        MetroConfig(main={**main, "num_layers": 2}, auxiliary={"num_layers": 2})
    )
    output = model(**batch())
    for part in (output.mlm, output.lm):
        assert part.sum / part.count < torch.tensor(2048.0).log() + 1
    torch.testing.assert_close(output.rtd.sum / output.rtd.count, torch.tensor(2.0).log())


def test_one_update_for_any_split(tmp_path) -> None:
    options: dict[str, Any] = {"main": MAIN, "embedding_sharing": "token_pos_norm"}
    whole, draws, _ = one_step(tmp_path / "whole", 8, 1, model=options)
    split, others, _ = one_step(tmp_path / "split", 2, 4, model=options)
    assert others == draws
    for name, gradient in whole.items():
        torch.testing.assert_close(split[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_no_weight_is_in_two_shard_groups() -> None:
    model = metro_model(main=MAIN, embedding_sharing="token_pos_norm")
    groups = model.backbone.shard_groups(model)
    owners = Counter(
        id(p) for group in groups for module in group for p in set(module.parameters())
    )
    assert set(owners.values()) == {1}
    assert len(groups) == 1 + 2 + 2

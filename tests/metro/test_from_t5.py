"""METRO from a T5 that exists: its logits, its ties, its file, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    BertConfig,
    BertModel,
    MT5Config,
    T5Config,
    T5EncoderModel,
    UMT5Config,
)

from metro_cases import LENGTHS, MAIN, MetroCollator, Rows, metro_model
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.metro import MetroForPretraining

GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
KINDS: dict[str, tuple[Any, bool]] = {  # config, and whether the checkpoint has a head of its own
    "v1.0": (T5Config(**MAIN), False),
    "v1.1 and FLAN": (T5Config(**MAIN, **GATED), True),
    "lm-adapted and tied": (T5Config(**MAIN, **GATED), False),
    "mT5": (MT5Config(**MAIN), True),
    "umT5": (UMT5Config(**MAIN), True),
    "umT5, tied": (UMT5Config(**MAIN), False),
}
SHARING = ("none", "token", "token_rel_norm", "disentangled")


def saved(kind: str, folder: Path, seed: int = 0) -> Path:
    """A checkpoint of random weights, with a head of its own where the public ones have it."""
    config, own_head = KINDS[kind]
    torch.manual_seed(seed)
    model = AutoModelForSeq2SeqLM.from_config(config)
    if own_head:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
        del model.all_tied_weights_keys["lm_head.weight"]
    model.save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(4, 40).view(3, 12)
    with torch.no_grad():
        return model.eval()(input_ids=ids, decoder_input_ids=ids.flip(0)).logits


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("kind", KINDS)
def test_the_main_model_is_that_t5_bit_for_bit(kind: str, sharing: str, tmp_path: Path) -> None:
    source = saved(kind, tmp_path / "source")
    expected = logits(AutoModelForSeq2SeqLM.from_pretrained(source))
    options: dict[str, Any] = {"embedding_sharing": sharing, "auxiliary_config": {"num_layers": 1}}
    model = MetroForPretraining.from_t5(source, **options)
    assert torch.equal(logits(model.main), expected)
    output = model(**MetroCollator()([Rows()[i] for i in range(4)]))
    (output.mlm.sum + output.lm.sum + 50 * output.rtd.sum).backward()

    model.save_main(tmp_path / "main")
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "main")
    assert type(again) is type(AutoModelForSeq2SeqLM.from_pretrained(source))
    assert torch.equal(logits(again), expected)
    own_head = KINDS[kind][1]
    assert (again.lm_head.weight is not again.shared.weight) == own_head
    # transformers before 5 ties what this file says, whatever the weights are.
    written = json.loads((tmp_path / "main" / "config.json").read_text())
    assert written["tie_word_embeddings"] is not own_head

    model.save_pretrained(tmp_path / "metro")
    loaded = MetroForPretraining.from_pretrained(tmp_path / "metro")
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(logits(loaded.main), expected)
    table = loaded.main.shared.weight
    assert (loaded.auxiliary.shared.weight is table) == (sharing in ("token", "token_rel_norm"))
    assert loaded.mlm_head.projection.weight is loaded.auxiliary.shared.weight
    assert (loaded.main.lm_head.weight is not table) == own_head


def test_an_own_head_and_the_table_are_trained_apart(tmp_path: Path) -> None:
    """A forced tie would give both the sum of the two gradients."""
    model = MetroForPretraining.from_t5(saved("v1.1 and FLAN", tmp_path / "t5"))
    model(**MetroCollator()([Rows()[i] for i in range(4)])).lm.sum.backward()
    table, head = model.main.shared.weight, model.main.lm_head.weight
    assert not torch.equal(table.grad, head.grad)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not torch.equal(table, head)


@pytest.mark.parametrize("kind", ["v1.0", "umT5"])
def test_the_auxiliary_model_starts_from_the_first_layers(kind: str, tmp_path: Path) -> None:
    source = saved(kind, tmp_path / "t5")
    model = MetroForPretraining.from_t5(
        source, embedding_sharing="none", auxiliary_config={"num_layers": MAIN["num_layers"]}
    )
    ids = torch.arange(4, 28).view(2, 12)
    model.eval()
    # With all layers of the main encoder it computes what that encoder computes.
    found, expected = (m(input_ids=ids)[0] for m in (model.auxiliary, model.main.encoder))
    assert torch.equal(found, expected)
    shorter = MetroForPretraining.from_t5(
        source, embedding_sharing="none", auxiliary_config={"num_layers": 1}
    )
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    assert torch.equal(shorter.auxiliary.get_parameter(name), shorter.main.get_parameter(name))
    assert shorter.auxiliary.get_parameter(name) is not shorter.main.get_parameter(name)


def test_the_auxiliary_model_starts_from_an_encoder(tmp_path: Path) -> None:
    source = saved("v1.0", tmp_path / "t5")
    torch.manual_seed(7)
    encoder = T5EncoderModel(T5Config(**{**MAIN, "num_layers": 3}))
    encoder.save_pretrained(tmp_path / "encoder")
    options: dict[str, Any] = {"auxiliary": tmp_path / "encoder"}
    model = MetroForPretraining.from_t5(source, embedding_sharing="none", **options)
    assert model.config.auxiliary.num_layers == 3
    ids = torch.arange(4, 28).view(2, 12)
    assert torch.equal(model.eval().auxiliary(input_ids=ids)[0], encoder.eval()(input_ids=ids)[0])
    with pytest.raises(MetroFastError, match=r"its shared.weight differs .* would be overwritten"):
        MetroForPretraining.from_t5(source, **options)
    with pytest.raises(MetroFastError, match=r"also has encoder.block.2.* give `auxiliary` the"):
        MetroForPretraining.from_t5(
            source, embedding_sharing="none", auxiliary_config={"num_layers": 2}, **options
        )


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({"num_layers": 3}, "num_layers is 3, but the main encoder has 2 layers"),
        ({"num_layers": 1, "d_ff": 48}, "another shape of encoder.block.0"),
    ],
)
def test_layers_that_do_not_fit_are_refused(
    sizes: dict[str, int], match: str, tmp_path: Path
) -> None:
    with pytest.raises(MetroFastError, match=match):
        MetroForPretraining.from_t5(saved("v1.0", tmp_path / "t5"), auxiliary_config=sizes)


def test_wrong_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        MetroForPretraining.from_t5(tmp_path / "absent")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=8)).save_pretrained(tmp_path / "bert")
    with pytest.raises(FormatError, match="is not an encoder-decoder"):
        MetroForPretraining.from_t5(tmp_path / "bert")
    metro_model().save_pretrained(tmp_path / "metro")
    with pytest.raises(FormatError, match="holds a METRO model; its plain T5 is"):
        MetroForPretraining.from_t5(tmp_path / "metro")

    from safetensors.torch import load_file, save_file

    folder = saved("v1.0", tmp_path / "t5")
    weights = load_file(folder / "model.safetensors")
    del weights["decoder.final_layer_norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FormatError, match=r"lacks decoder.final_layer_norm.weight"):
        MetroForPretraining.from_t5(folder)


WIDE = {"vocab_size": 2000, "d_model": 768, "d_kv": 64, "num_heads": 12, "d_ff": 768}
ONE = {**WIDE, "num_layers": 1, "num_decoder_layers": 1, "decoder_start_token_id": 0}


@pytest.mark.slow  # models of width 768
@pytest.mark.parametrize("start", ["scratch", "v1.1, random auxiliary", "v1.1, first layers"])
def test_the_first_losses_are_those_of_a_guess(start: str, tmp_path: Path) -> None:
    """ln V + 2 at most; with N(0, 1) embeddings and no scale it was 576 at this width."""
    torch.manual_seed(0)
    mask, special = 1999, [*range(1900, 2000), 0]
    if start == "scratch":
        from metro_fast.metro import MetroConfig

        model = MetroForPretraining(
            MetroConfig(main=ONE, auxiliary={"num_layers": 1}, forbidden_token_ids=special)
        )
    else:
        source = AutoModelForSeq2SeqLM.from_config(T5Config(**ONE, **GATED))
        with torch.no_grad():  # public v1.1 checkpoints have embeddings of about this size
            source.shared.weight.mul_(11.0)
            source.lm_head.weight = torch.nn.Parameter(torch.randn(2000, 768) * 0.04)
        del source.all_tied_weights_keys["lm_head.weight"]
        source.save_pretrained(tmp_path)
        model = MetroForPretraining.from_t5(
            tmp_path,
            auxiliary="random" if "random" in start else "first_layers",
            auxiliary_config={"num_layers": 1},
            forbidden_token_ids=special,
        )
    rows = torch.randint(4, 1900, (8, 128))
    masked = torch.zeros(8, 128, dtype=torch.bool)
    masked[:, ::6] = True
    batch = {
        "input_ids": rows.masked_fill(masked, mask),
        "attention_mask": torch.ones_like(rows),
        "labels": rows,
        "masked_positions": masked.flatten().nonzero().squeeze(1),
        "sample_ids": torch.arange(8),
    }
    with torch.no_grad():
        output = model(**batch)
    mean = (output.mlm.sum / output.mlm.count).item()
    assert mean <= math.log(2000) + 2
    assert not torch.isin(output.sampled_ids, torch.tensor(special)).any()
    # A model that draws almost one token only would make hardly any noise.
    assert output.sampled_ids.unique().numel() > 100


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ({"embedding_sharing": "none"}, {"embedding_sharing": "token"}),
        ({"embedding_sharing": "token"}, {"embedding_sharing": "none"}),
        ({"embedding_sharing": "token"}, {"embedding_sharing": "token_rel_norm"}),
        ({"embedding_sharing": "token"}, {"embedding_sharing": "disentangled"}),
        ({"rtd_head": "none"}, {"rtd_head": "encoder"}),
        ({"rtd_head": "both"}, {"rtd_head": "decoder"}),
        ({"rtd_head_kind": "deep"}, {"rtd_head_kind": "simple"}),
    ],
)
def test_other_options_than_the_checkpoint_has_are_refused_unless_asked_for(
    made: dict[str, Any], asked: dict[str, Any], tmp_path: Path
) -> None:
    model = metro_model(**made)
    model.save_pretrained(tmp_path)
    name = next(iter(asked))
    with pytest.raises(MetroFastError, match=rf"made with other options \({name}: "):
        MetroForPretraining.from_pretrained(tmp_path, **asked)
    loaded = MetroForPretraining.from_pretrained(tmp_path, allow_other_options=True, **asked)
    assert getattr(loaded.config, name) == asked[name]
    assert torch.equal(logits(loaded.main), logits(model.main))
    fresh = metro_model(**asked)
    for pair in (("auxiliary", "main"),):
        ties = [
            getattr(m, pair[0]).shared.weight is getattr(m, pair[1]).shared.weight
            for m in (loaded, fresh)
        ]
        assert ties[0] == ties[1]
    loaded(**MetroCollator()([Rows()[i] for i in range(len(LENGTHS))]))


def test_sizes_of_a_checkpoint_cannot_be_changed(tmp_path: Path) -> None:
    metro_model().save_pretrained(tmp_path)
    for options in ({"auxiliary": {"num_layers": 2}}, {"main": {"d_ff": 32}}, {"tied_head": False}):
        with pytest.raises(MetroFastError, match="made with other options"):
            MetroForPretraining.from_pretrained(tmp_path, **options)
        with pytest.raises(MetroFastError, match="cannot be changed"):
            MetroForPretraining.from_pretrained(tmp_path, allow_other_options=True, **options)
    # What changes no weight is free.
    loaded = MetroForPretraining.from_pretrained(tmp_path, rtd_weight=20.0, sampling_top_k=5)
    assert (loaded.config.rtd_weight, loaded.config.sampling_top_k) == (20.0, 5)


def test_a_checkpoint_without_a_weight_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    metro_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["rtd_head.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FormatError, match=r"lacks rtd_head.dense.weight"):
        MetroForPretraining.from_pretrained(tmp_path)

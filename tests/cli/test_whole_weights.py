"""A checkpoint with missing or superfluous weights is refused at every door that loads it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("nevergrad")

from transformers import GPT2Config, GPT2LMHeadModel

from damaged import (
    composed,
    evaluated,
    finetuned,
    make_room,
    merged,
    pretrained,
    rewrite,
    searched,
    with_one_more,
    without,
)
from metro_fast import robustness
from metro_fast._pretrained import load_causal, load_model, load_seq2seq
from metro_fast.errors import FormatError
from metro_fast.metro import MetroForPretraining

LOST = (
    "encoder.block.0.layer.0.SelfAttention.q.weight",
    "encoder.block.1.layer.1.DenseReluDense.wo.weight",
)
MORE = "encoder.block.7.layer.0.SelfAttention.q.weight"


@pytest.fixture
def room(tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    return make_room(tiny_t5, tiny_tokenizer, tmp_path)


DOORS: dict[str, Callable[[Path], object]] = {
    "evaluate": evaluated,
    "finetune": finetuned,
    "expert compose": composed,
    "expert tune": searched,
    "expert merge --base": merged,
    "pretrain span --init": lambda room: pretrained(room, "span"),
    "pretrain metro --init": lambda room: pretrained(room, "metro", auxiliary={"num_layers": 1}),
    "load_seq2seq": lambda room: load_seq2seq(room / "model"),
    "load_model": lambda room: load_model(str(room / "model")),
    "robustness.load_model": lambda room: robustness.load_model(room / "model"),
    "from_t5": lambda room: MetroForPretraining.from_t5(room / "model"),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_model_without_two_weights_is_refused_by_name(door: str, room: Path) -> None:
    rewrite(room / "model" / "model.safetensors", without(*LOST))
    names = f"lacks {LOST[0]}, {LOST[1]} (2 weights in all)"
    with pytest.raises(FormatError, match=re.escape(names)) as caught:
        DOORS[door](room)
    assert str(room / "model") in str(caught.value)


@pytest.mark.parametrize("door", DOORS)
def test_a_model_with_a_weight_too_many_is_refused_by_name(door: str, room: Path) -> None:
    rewrite(room / "model" / "model.safetensors", with_one_more(MORE))
    with pytest.raises(FormatError, match=re.escape(f"has no place for its {MORE} (1 weight")):
        DOORS[door](room)


@pytest.mark.slow  # it goes through every door, so that the refusals above are not of whole models
def test_the_whole_model_passes_every_door(room: Path) -> None:
    for door in DOORS.values():
        door(room)


@pytest.fixture
def gpt(tmp_path: Path) -> Path:
    """A causal model with tied embeddings, in four files with an index."""
    config = GPT2Config(vocab_size=40, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt", max_shard_size="2KB")
    return tmp_path / "gpt"


def test_a_causal_model_loads_by_its_config(gpt: Path, room: Path) -> None:
    assert type(load_model(gpt)).__name__ == type(load_causal(gpt)).__name__ == "GPT2LMHeadModel"
    assert load_model(room / "model", torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(FormatError, match="is not an encoder-decoder"):
        load_seq2seq(gpt)
    with pytest.raises(FormatError, match="is not a causal language model"):
        load_causal(room / "model")


def test_a_causal_model_in_shards_is_whole_or_refused(gpt: Path) -> None:
    weight = "transformer.h.1.mlp.c_fc.weight"
    index = json.loads((gpt / "model.safetensors.index.json").read_text())["weight_map"]
    shard = gpt / index[weight]
    before = shard.read_bytes()
    rewrite(shard, without(weight))  # the index still lists it
    with pytest.raises(FormatError, match=re.escape(f"lacks {weight} (1 weight in all)")):
        load_model(gpt)
    shard.write_bytes(before)
    rewrite(shard, with_one_more("transformer.h.9.mlp.c_fc.weight"))
    with pytest.raises(FormatError, match=r"has no place for its transformer\.h\.9"):
        load_model(gpt)
    shard.unlink()
    with pytest.raises((OSError, FormatError), match=re.escape(shard.name)):
        load_model(gpt)


def test_a_weight_of_another_shape_is_refused(room: Path) -> None:
    rewrite(
        room / "model" / "model.safetensors",
        lambda tensors: tensors.update({LOST[0]: torch.ones(2, 2)}),
    )
    with pytest.raises(FormatError, match=r"cannot be loaded|another shape"):
        load_seq2seq(room / "model")


def test_what_transformers_knows_to_be_harmless_is_no_error(gpt: Path, room: Path) -> None:
    # Old checkpoints have GPT-2's causal masks and T5's unused bias of cross-attention; a tied
    # head may be saved or not.
    index = json.loads((gpt / "model.safetensors.index.json").read_text())["weight_map"]
    shard = gpt / index["transformer.h.0.ln_1.weight"]
    rewrite(shard, with_one_more("transformer.h.0.attn.bias"))
    load_model(gpt)
    old = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    path = room / "model" / "model.safetensors"
    rewrite(path, with_one_more(old))
    rewrite(path, lambda t: t.update({"encoder.embed_tokens.weight": t["shared.weight"].clone()}))
    load_model(room / "model")


def test_an_auxiliary_may_start_from_the_encoder_of_a_whole_t5_that_is_not_damaged(
    room: Path,
) -> None:
    MetroForPretraining.from_t5(room / "model", auxiliary=str(room / "model"))
    shutil.copytree(room / "model", room / "encoder")
    rewrite(room / "encoder" / "model.safetensors", without(LOST[0]))
    with pytest.raises(FormatError, match=re.escape(f"lacks {LOST[0]}")):
        MetroForPretraining.from_t5(room / "model", auxiliary=str(room / "encoder"))

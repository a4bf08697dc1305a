"""METRO from unusual checkpoints: half precision, shards, settings, encoders, tokenizers."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    BertConfig,
    BertModel,
    ByT5Tokenizer,
    GenerationConfig,
    MT5Config,
    T5Config,
    T5EncoderModel,
    UMT5Config,
)

from metro_cases import MAIN, VOCAB, MetroCollator, Rows, metro_model
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.metro import MetroForPretraining, MetroT0Config

GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
ONE: dict[str, Any] = {"auxiliary_config": {"num_layers": 1}}


def saved(folder: Path, config: Any = None, dtype: Any = torch.float32, **options: Any) -> Path:
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(T5Config(**MAIN) if config is None else config)
    if isinstance(config, MT5Config):
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
        del model.all_tied_weights_keys["lm_head.weight"]
    model.to(dtype).save_pretrained(folder, **options)
    return folder


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(4, 40).view(3, 12)
    with torch.no_grad():
        return model.eval()(input_ids=ids, decoder_input_ids=ids.flip(0)).logits


def same(folder: Path, source: Path) -> bool:
    first, second = (AutoModelForSeq2SeqLM.from_pretrained(f) for f in (folder, source))
    return torch.equal(logits(first), logits(second))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", [T5Config, MT5Config, UMT5Config])
def test_half_precision_stays_as_transformers_loads_it_if_asked(
    kind: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    source = saved(tmp_path / "t5", kind(**MAIN), dtype)
    expected = AutoModelForSeq2SeqLM.from_pretrained(source)
    model = MetroForPretraining.from_t5(source, dtype="auto", **ONE)
    assert model.dtype == expected.dtype == dtype
    assert torch.equal(logits(model.main), logits(expected))
    types = {n: p.dtype for n, p in expected.named_parameters()}
    assert {n: p.dtype for n, p in model.main.named_parameters()} == types
    wide = torch.float32 if dtype == torch.float16 else dtype  # transformers: wo of an fp16 T5
    for name, weight in model.named_parameters():
        assert weight.dtype == (wide if ".wo." in name else dtype), name
    model.save_main(tmp_path / "main")
    assert same(tmp_path / "main", source)
    output = model(**MetroCollator()([Rows()[i] for i in range(4)]))
    assert output.lm.sum.dtype == torch.float32
    assert math.isfinite(output.lm.sum.item())


def test_another_dtype_is_that_of_the_whole_model(tmp_path: Path) -> None:
    model = MetroForPretraining.from_t5(saved(tmp_path), dtype=torch.bfloat16, **ONE)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    expected = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(logits(model.main), logits(expected))


@pytest.mark.parametrize("form", ["shards", "bin", "saved by save_main"])
def test_every_form_of_checkpoint(form: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "t5", MT5Config(**MAIN))
    other = tmp_path / "other"
    model = AutoModelForSeq2SeqLM.from_pretrained(source)
    if form == "shards":
        model.save_pretrained(other, max_shard_size="20KB")
        assert len(list(other.glob("*.safetensors"))) > 2
    elif form == "bin":
        model.save_pretrained(other)
        torch.save(model.state_dict(), other / "pytorch_model.bin")
        (other / "model.safetensors").unlink()
    else:
        MetroForPretraining.from_t5(source, **ONE).save_main(other)
    MetroForPretraining.from_t5(other, **ONE).save_main(tmp_path / "main")
    assert same(tmp_path / "main", source)


def test_settings_of_the_source_survive(tmp_path: Path) -> None:
    config = T5Config(**MAIN, n_positions=512, task_specific_params={"sum": {"num_beams": 4}})
    model = AutoModelForSeq2SeqLM.from_config(config)
    model.generation_config.num_beams = 3
    model.generation_config.max_length = 77
    model.save_pretrained(tmp_path / "t5")
    first = MetroForPretraining.from_t5(tmp_path / "t5", **ONE)
    first.save_pretrained(tmp_path / "metro")
    loaded = MetroForPretraining.from_pretrained(tmp_path / "metro")
    other = MetroForPretraining.from_pretrained(
        tmp_path / "metro", rtd_head="both", allow_other_options=True
    )
    for name, metro in (("a", first), ("b", loaded), ("c", other)):
        metro.save_main(tmp_path / name)
        generation = GenerationConfig.from_pretrained(tmp_path / name)
        assert (generation.num_beams, generation.max_length) == (3, 77)
        kept = AutoConfig.from_pretrained(tmp_path / name)
        assert kept.n_positions == 512
        assert kept.task_specific_params == {"sum": {"num_beams": 4}}


def test_a_source_without_a_start_token_generates(tmp_path: Path) -> None:
    saved(tmp_path / "t5", T5Config(**{**MAIN, "decoder_start_token_id": None}))
    (tmp_path / "t5" / "generation_config.json").unlink()
    model = MetroForPretraining.from_t5(tmp_path / "t5", **ONE)
    assert model.config.decoder_start_token_id == 0
    assert model.generate(torch.tensor([[5, 6]]), max_new_tokens=2)[0, 0] == 0


def test_the_main_model_is_not_built_twice(tmp_path: Path, monkeypatch: Any) -> None:
    """A copy of random weights would double the memory of a large model."""
    source = saved(tmp_path)
    from metro_fast.metro.backbones.t5 import T5

    built: list[Any] = []
    build = T5.main

    def main(self: Any, config: Any) -> Any:
        built.append(build(self, config))
        return built[-1]

    monkeypatch.setattr(T5, "main", main)
    model = MetroForPretraining.from_t5(source, **ONE)
    assert {p.device.type for m in built for p in m.parameters()} == {"meta"}
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert model.config.main is model.main.config


@pytest.mark.parametrize("auxiliary", ["random", "first_layers"])
def test_disentangled_tables_start_equal(auxiliary: str, tmp_path: Path) -> None:
    model = MetroForPretraining.from_t5(
        saved(tmp_path), auxiliary=auxiliary, embedding_sharing="disentangled", **ONE
    )
    assert torch.equal(model.auxiliary.shared.weight, model.main.shared.weight)
    assert model.auxiliary.shared.weight is not model.main.shared.weight


def test_an_encoder_keeps_the_settings_that_it_computes_with(tmp_path: Path) -> None:
    source = saved(tmp_path / "t5")
    own = {"layer_norm_epsilon": 1e-2, "relative_attention_max_distance": 20, "d_model": 16}
    encoder = T5EncoderModel(T5Config(**{**MAIN, **own, "feed_forward_proj": "gated-gelu"}))
    encoder.save_pretrained(tmp_path / "encoder")
    model = MetroForPretraining.from_t5(
        source, auxiliary=tmp_path / "encoder", embedding_sharing="none"
    )
    ids = torch.arange(4, 64).view(2, 30)
    assert torch.equal(model.eval().auxiliary(input_ids=ids)[0], encoder.eval()(input_ids=ids)[0])


def test_an_encoder_of_metro_t0(tmp_path: Path) -> None:
    sizes = {"vocab_size": VOCAB, "d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    source = saved(tmp_path / "t0", MetroT0Config(**sizes))
    options: dict[str, Any] = {"auxiliary": source, "embedding_sharing": "token_pos"}
    model = MetroForPretraining.from_t5(source, **options)
    assert model.config.auxiliary.num_layers == 2
    ids = torch.arange(4, 28).view(2, 12)
    model.eval()
    found, expected = (m(input_ids=ids)[0] for m in (model.auxiliary, model.main.encoder))
    assert torch.equal(found, expected)


def test_wrong_starts_are_named(tmp_path: Path) -> None:
    source = saved(tmp_path / "t5")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=8)).save_pretrained(tmp_path / "bert")
    encoder = T5EncoderModel(T5Config(**MAIN))
    state = encoder.state_dict()
    del state["encoder.final_layer_norm.weight"]
    encoder.save_pretrained(tmp_path / "part", state_dict=state)
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"auxiliary": tmp_path / "bert"}, MetroFastError, "it is a bert, expected a t5"),
        ({"auxiliary": tmp_path / "part"}, FormatError, "lacks encoder.final_layer_norm.weight"),
        ({"auxiliary": tmp_path / "no"}, FileNotFoundError, "no does not exist"),
        ({"auxiliary": "frist_layers"}, MetroFastError, r"did you mean first_layers\?"),
        ({"tied_head": True}, MetroFastError, "tied_head given, but the T5 at .* decides"),
        ({"main": {"d_model": 8}}, MetroFastError, "main given, but the T5 at"),
        ({"tokenizer": "t5"}, TypeError, "tokenizer is str, expected a tokenizer"),
        ({"rtd_haed": "both"}, MetroFastError, r"rtd_haed: did you mean rtd_head\?"),
    ]
    for options, error, match in cases:
        with pytest.raises(error, match=match):
            MetroForPretraining.from_t5(source, **options)
    with pytest.raises(MetroFastError, match=r"one of t5, expected metro: start .*from_t5"):
        MetroForPretraining.from_pretrained(source)
    with pytest.raises(FileNotFoundError, match="no does not exist"):
        MetroForPretraining.from_pretrained(tmp_path / "no")


def test_a_tokenizer_of_bytes_without_a_file_of_vocabulary(tmp_path: Path) -> None:
    source = saved(tmp_path, T5Config(**{**MAIN, "vocab_size": 400}))
    forbidden = MetroForPretraining.from_t5(source, tokenizer=ByT5Tokenizer(), **ONE)
    # pad, eos, unk, the sentinels 248 to 258, and ids without a token
    expected = [0, 1, 2, *range(248, 400)]
    assert forbidden.config.forbidden_token_ids == expected


def test_loading_under_other_options_keeps_mode_and_attention(tmp_path: Path) -> None:
    metro_model().save_pretrained(tmp_path)
    model = MetroForPretraining.from_pretrained(
        tmp_path, rtd_head="both", allow_other_options=True, attn_implementation="eager"
    )
    assert not model.training
    for part in (model, model.auxiliary, model.main, model.main.encoder):
        assert part.config._attn_implementation == "eager"

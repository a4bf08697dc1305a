"""Settings of METRO: misspelt names, wrong types, copies, and what survives a file."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, BertConfig, T5Config

from metro_cases import MAIN, VOCAB, metro_config, metro_model
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroConfig, MetroForPretraining

EVERY: dict[str, Any] = {  # another value than the default for each option that goes with the rest
    "sampling_temperature": 0.7,
    "sampling_top_k": 5,
    "exclude_original": True,
    "sampling_mode": "eval",
    "auxiliary_frozen_from": 3,
    "auxiliary_dropped_from": 9,
    "embedding_sharing": "token_rel_norm",
    "rtd_head": "both",
    "rtd_head_kind": "simple",
    "rtd_target": "masked",
    "rtd_only": True,
    "weighted_lm_loss": True,
    "divide_by_mean_weight": True,
    "mean_weight_with_padding": True,
    "label_smoothing": 0.1,
    "z_loss": 1e-4,
    "decoding_target": "all",
    "mlm_weight": 2.0,
    "lm_weight": 3.0,
    "rtd_weight": 4.0,
    "forbidden_token_ids": [0, 5],
    "sampling_seed": 2**63 - 1,
    "tied_head": False,
}


@pytest.mark.parametrize("kind", ["t5", "mt5", "umt5", "metro_t0"])
def test_every_option_survives_a_file_and_a_copy(kind: str, tmp_path: Path) -> None:
    sharing = "token_pos" if kind == "metro_t0" else "token_rel_norm"
    tied = {} if kind != "metro_t0" else {"tied_head": True}
    config = metro_config(
        main={"model_type": kind}, **{**EVERY, "embedding_sharing": sharing, **tied}
    )
    config.save_pretrained(tmp_path)
    for again in (
        MetroConfig.from_pretrained(tmp_path),
        AutoConfig.from_pretrained(tmp_path),
        MetroConfig.from_dict(json.loads(config.to_json_string())),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
    ):
        assert again.options == config.options
        assert {**again.to_dict(), "_name_or_path": ""} == config.to_dict()
        assert again.main.model_type == kind


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"embeding_sharing": "none"}, "no setting embeding_sharing: did you mean embedding_shari"),
        ({"rtd_wieght": 1.0}, "did you mean rtd_weight"),
        ({"d_model": 8}, r"sizes of the model are given as main={'d_model'"),
        ({"main": {"d_modle": 8}}, r"main, a config of t5, has no setting d_modle: .* d_model\?"),
        ({"main": {"model_type": "umt5", "layers": 2}}, "a config of umt5, has no setting layers"),
        ({"auxiliary": {"depth": 2}}, "auxiliary sets depth"),
    ],
)
def test_a_misspelt_setting_is_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(MetroFastError, match=match):
        metro_config(**options)


def test_settings_of_transformers_are_taken() -> None:
    config = metro_config(dtype="bfloat16", attn_implementation="eager", name_or_path="x")
    assert config._attn_implementation == "eager"
    assert config.main._attn_implementation == "eager"
    assert config.name_or_path == "x"


def test_a_misspelt_setting_is_named_when_loading(tmp_path: Path) -> None:
    metro_model().save_pretrained(tmp_path)
    with pytest.raises(MetroFastError, match="rtd_wieght: did you mean rtd_weight"):
        MetroConfig.from_pretrained(tmp_path, rtd_wieght=2.0)
    with pytest.raises(MetroFastError, match="embeding_sharing: did you mean embedding_sharing"):
        MetroForPretraining.from_pretrained(tmp_path, embeding_sharing="none")
    with pytest.raises(MetroFastError, match=r"rtd_weight is -1\.0, expected a finite"):
        MetroConfig.from_pretrained(tmp_path, rtd_weight=-1.0)
    with pytest.raises(MetroFastError, match="config is given, and rtd_weight too"):
        MetroForPretraining.from_pretrained(tmp_path, config=metro_config(), rtd_weight=2.0)
    with pytest.raises(TypeError, match="config is dict, expected a MetroConfig"):
        MetroForPretraining.from_pretrained(tmp_path, config={})
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "note_of_mine": "kept"}))
    assert MetroConfig.from_pretrained(tmp_path).note_of_mine == "kept"
    file.write_text(json.dumps({**values, "rtd_heads": "both"}))
    with pytest.raises(MetroFastError, match="rtd_heads: did you mean rtd_head"):
        MetroConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rtd_weight", "50"),
        ("rtd_weight", None),
        ("exclude_original", 1),
        ("rtd_only", "False"),
        ("weighted_lm_loss", "yes"),
        ("sampling_top_k", 2.5),
        ("sampling_top_k", True),
        ("auxiliary_frozen_from", 2.5),
        ("sampling_temperature", "1"),
        ("label_smoothing", True),
        ("sampling_seed", 1.5),
        ("tied_head", "yes"),
        ("forbidden_token_ids", 5),
        ("forbidden_token_ids", "05"),
        ("forbidden_token_ids", [True]),
        ("forbidden_token_ids", [1.0]),
        ("auxiliary", {"num_layers": "1"}),
        ("main", {"num_layers": 1.5}),
        ("main", {"d_model": "32"}),
    ],
)
def test_a_wrong_type_is_named(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        metro_config(**{name: value})


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"main": "t5-small"}, TypeError, "main is str, expected a config or a dict"),
        ({"main": BertConfig()}, MetroFastError, "main.model_type is 'bert'"),
        ({"auxiliary": BertConfig()}, MetroFastError, "auxiliary.model_type is 'bert'"),
        (
            {"auxiliary": T5Config(**{**MAIN, "vocab_size": 50})},
            MetroFastError,
            "auxiliary.vocab_size is 50, but main.vocab_size is 97: both models read",
        ),
    ],
)
def test_another_kind_of_model_is_named(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        MetroConfig(**{"main": T5Config(**MAIN), **options})


def test_an_architecture_of_one_matrix_has_no_head_of_its_own() -> None:
    with pytest.raises(MetroFastError, match="tied_head is False, but metro_t0 has one matrix"):
        metro_config(main={"model_type": "metro_t0"}, tied_head=False)


def test_padding_of_the_main_model_is_needed() -> None:
    with pytest.raises(MetroFastError, match=r"main\.pad_token_id is None"):
        metro_config(main={"pad_token_id": None})


def test_a_deeper_auxiliary_model_has_no_biases_to_share() -> None:
    deeper = {"main": {"model_type": "umt5"}, "auxiliary": {"num_layers": 3}}
    with pytest.raises(MetroFastError, match=r"auxiliary.num_layers is 3, but main.num_layers is"):
        metro_config(embedding_sharing="token_rel_norm", **deeper)
    MetroForPretraining(metro_config(embedding_sharing="token", **deeper))


def test_the_auxiliary_model_can_have_other_feed_forward_layers() -> None:
    auxiliary = {"num_layers": 1, "feed_forward_proj": "gated-gelu"}
    model = MetroForPretraining(metro_config(auxiliary=auxiliary))
    names = {n.rsplit(".", 2)[-2] for n, _ in model.auxiliary.named_parameters() if "Dense" in n}
    assert names == {"wi_0", "wi_1", "wo"}


def test_no_object_of_the_caller_is_changed() -> None:
    main = T5Config(**{**MAIN, "decoder_start_token_id": None})
    auxiliary, forbidden = T5Config(**MAIN), [0, 90]
    before = main.to_dict(), auxiliary.to_dict()
    config = MetroConfig(main=main, auxiliary=auxiliary, forbidden_token_ids=forbidden)
    model = MetroForPretraining(config)
    model.resize_token_embeddings(80)
    assert (main.to_dict(), auxiliary.to_dict()) == before
    assert forbidden == [0, 90]
    assert model.config.main.vocab_size == 80
    assert main.vocab_size == VOCAB


def test_a_saved_config_may_hold_names_of_its_own() -> None:
    saved = T5Config(**MAIN, n_positions=512).to_dict()
    config = MetroConfig(main=saved)
    assert config.main.n_positions == 512
    assert MetroConfig(**config.to_dict()).main.n_positions == 512


def test_a_setting_that_was_changed_afterwards_is_checked() -> None:
    config = metro_config()
    config.rtd_weight = -1.0
    with pytest.raises(MetroFastError, match=r"rtd_weight is -1\.0"):
        MetroForPretraining(config)

"""The model that a pretraining run starts with, and the checks that it fits the tokenizer."""

import logging
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from metro_fast._pretrained import explained
from metro_fast.data.sentinels import find_sentinels
from metro_fast.data.tokenizer_identity import check_model_tokenizer
from metro_fast.data.vocabulary import vocabulary_size
from metro_fast.errors import MetroFastError
from metro_fast.metro.objectives import ModelPlan
from metro_fast.metro.pretrain_config import PretrainConfig
from metro_fast.metro.sections import ModelSection

logger = logging.getLogger(__name__)


def make_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Make or load the model of a run.

    Raises:
        FormatError: If the settings give no model, or what is loaded is damaged or no
            encoder-decoder.
        MetroFastError: If model and tokenizer do not fit together.
        OSError: If a model cannot be read.
    """
    main = None
    if config.init is None:
        with explained("a model of these settings"):
            main = main_config(config.model, tokenizer, config.data.block_size)
    plan = ModelPlan(
        main=main,
        init=config.init,
        tokenizer=tokenizer,
        objective=config.objective,
        auxiliary=config.auxiliary,
        seed=config.training["seed"],
        attn_implementation=config.model.attn_implementation,
        sixteen_bit_weights=bool(config.training.get("sixteen_bit_weights")),
    )
    model = config.recipe.model(plan)
    if config.init is not None:
        check_vocabulary(model, tokenizer, config.init)
    for source in filter(None, (config.init, _encoder(config))):
        if not check_model_tokenizer(source, tokenizer):
            logger.warning(
                "%s comes without a tokenizer, so whether its ids mean the tokens of the corpus is "
                "not known: save its tokenizer with it",
                source,
            )
    return model


def _encoder(config: PretrainConfig) -> str | None:
    """The folder or name that the auxiliary encoder is loaded from, if it is loaded."""
    start = config.auxiliary.init if config.recipe.has_auxiliary else None
    return None if start in (None, "random", "first_layers") else str(start)


def main_config(
    section: ModelSection, tokenizer: PreTrainedTokenizerBase, block_size: int
) -> PreTrainedConfig:
    """The config of a new main model.

    Args:
        section: The section `model`.
        tokenizer: Gives the size of the vocabulary and its special ids.
        block_size: Tokens per row, which learned positions have to reach.
    """
    multiple = section.vocab_multiple
    settings: dict[str, Any] = {
        "vocab_size": -(-vocabulary_size(tokenizer) // multiple) * multiple,
        "d_model": section.d_model,
        "d_kv": section.d_kv,
        "d_ff": section.d_ff,
        "num_layers": section.num_layers,
        "num_decoder_layers": section.num_decoder_layers or section.num_layers,
        "num_heads": section.num_heads,
        "dropout_rate": section.dropout,
        "relative_attention_num_buckets": section.relative_attention_num_buckets,
        "relative_attention_max_distance": section.relative_attention_max_distance,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    if section.type == "metro_t0":
        settings |= _of_metro_t0(section, tokenizer, block_size)
    else:
        settings["feed_forward_proj"] = section.feed_forward
    config: PreTrainedConfig = AutoConfig.for_model(section.type, **settings)
    return config


def _of_metro_t0(
    section: ModelSection, tokenizer: PreTrainedTokenizerBase, block_size: int
) -> dict[str, Any]:
    """METRO-T0 starts its decoder with the first sentinel, which also is its mask."""
    sentinels = find_sentinels(tokenizer)
    start = sentinels["sentinel_first"] if sentinels else tokenizer.mask_token_id
    if start is None:
        raise MetroFastError(
            "the tokenizer has neither <extra_id_0> nor a mask token, one of which starts the "
            "decoder of metro_t0: add one with "
            "tokenizer.add_special_tokens({'mask_token': '<mask>'}), and prepare the corpus with it"
        )
    return {
        "dense_act_fn": section.feed_forward,
        "attention_dropout": section.dropout,
        "max_position_embeddings": max(1024, block_size + 8),
        "bos_token_id": tokenizer.bos_token_id,
        "decoder_start_token_id": start,
    }


def check_vocabulary(model: Any, tokenizer: PreTrainedTokenizerBase, init: str) -> None:
    """Refuse a loaded model whose ids do not fit the tokenizer.

    A larger vocabulary is fine: its last ids are then unused.

    Raises:
        MetroFastError: If the tokenizer has more ids, or another pad or EOS id.
    """
    main = getattr(model, "main", model).config.get_text_config(decoder=True)
    size = vocabulary_size(tokenizer)
    if size > main.vocab_size:
        raise MetroFastError(
            f"the tokenizer has {size} ids, but the model at {init} has embeddings for "
            f"{main.vocab_size}: give the tokenizer of that model, prepare the corpus with it, or "
            "resize the model's embeddings"
        )
    for name in ("pad_token_id", "eos_token_id"):
        ours, theirs = getattr(tokenizer, name), getattr(main, name)
        allowed = theirs if isinstance(theirs, list) else [theirs]
        if theirs is not None and ours not in allowed:
            raise MetroFastError(
                f"{name} is {ours} in the tokenizer, but {theirs} in the model at {init}: give the "
                "tokenizer of that model, and prepare the corpus with it"
            )

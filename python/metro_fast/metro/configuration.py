"""The settings of a METRO model, saved beside its weights."""

from copy import deepcopy
from difflib import get_close_matches
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

from metro_fast._ranges import check_at_least, check_choice, check_fraction, check_seed
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.metro.backbones import backbone_of
from metro_fast.metro.config_checks import (
    checked_ids,
    refuse_unknown,
    typed_config,
    unknown_names,
    written_config,
)
from metro_fast.metro.options import (
    OPTION_NAMES,
    DecodingTarget,
    EmbeddingSharing,
    MetroOptions,
    RtdHead,
    RtdHeadKind,
    RtdTarget,
    SamplingMode,
)

AUXILIARY: dict[str, Any] = {"num_layers": 4, "dropout_rate": 0.0}
"""Values that the auxiliary model has of its own by default (METRO-T0: 4 layers, no dropout)."""

FIELDS = ("main", "auxiliary", "tied_head", "forbidden_token_ids", "sampling_seed", *OPTION_NAMES)
"""Names of all settings of `MetroConfig` that are its own."""


class MetroConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """Settings of `MetroForPretraining` (METRO-T0, arXiv 2305.12567).

    The drawing, the losses and their weights are described by `MetroOptions`, whose fields are
    attributes here.

    Attributes:
        main: The main encoder-decoder: a config of transformers, or its dictionary, whose
            `model_type` ("t5" by default) chooses the architecture.
        auxiliary: The auxiliary encoder's config. Given as a dictionary, it is the main config with
            these values in place; the default is {"num_layers": 4, "dropout_rate": 0.0}, and both
            keep their defaults if other values are given.
        tied_head: Whether the main model's head is tied to its token embeddings; None for what a
            new model of its kind does (T5 v1.0 ties; v1.1, FLAN and mT5 have a head of their own).
        forbidden_token_ids: Tokens that are never drawn: mask, sentinels, padding. None for the
            padding token alone.
        sampling_seed: Seed of the draws, 0 <= seed < 2^63.

    Raises:
        MetroFastError: If an option has an unknown value, a number is out of range, or the
            architecture does not have it.
        TypeError: If `main` or `auxiliary` is neither a config nor a dictionary, or another
            setting has a wrong type.

    Example:
        >>> config = MetroConfig(main={"vocab_size": 64, "d_model": 8, "d_kv": 4, "num_heads": 2})
        >>> config.main.d_model, config.auxiliary.num_layers, config.rtd_weight
        (8, 4, 50.0)
        >>> config
        MetroConfig(t5, d_model=8, vocab_size=64, layers 4 + 6 + 6, rtd_head='encoder')
    """

    model_type = "metro"
    is_composition = True
    sub_configs: ClassVar[dict[str, Any]] = {"main": AutoConfig, "auxiliary": AutoConfig}

    main: Any = None
    auxiliary: Any = None
    tied_head: bool | None = None
    forbidden_token_ids: list[int] | None = None
    sampling_seed: int = 0
    embedding_sharing: EmbeddingSharing = MetroOptions.embedding_sharing
    sampling_mode: SamplingMode = MetroOptions.sampling_mode
    sampling_temperature: float = MetroOptions.sampling_temperature
    sampling_top_k: int | None = MetroOptions.sampling_top_k
    exclude_original: bool = MetroOptions.exclude_original
    auxiliary_frozen_from: int | None = MetroOptions.auxiliary_frozen_from
    auxiliary_dropped_from: int | None = MetroOptions.auxiliary_dropped_from
    rtd_head: RtdHead = MetroOptions.rtd_head
    rtd_head_kind: RtdHeadKind = MetroOptions.rtd_head_kind
    rtd_target: RtdTarget = MetroOptions.rtd_target
    rtd_only: bool = MetroOptions.rtd_only
    weighted_lm_loss: bool = MetroOptions.weighted_lm_loss
    divide_by_mean_weight: bool = MetroOptions.divide_by_mean_weight
    mean_weight_with_padding: bool = MetroOptions.mean_weight_with_padding
    label_smoothing: float = MetroOptions.label_smoothing
    z_loss: float = MetroOptions.z_loss
    decoding_target: DecodingTarget = MetroOptions.decoding_target
    mlm_weight: float = MetroOptions.mlm_weight
    lm_weight: float = MetroOptions.lm_weight
    rtd_weight: float = MetroOptions.rtd_weight

    def __post_init__(self, **kwargs: Any) -> None:
        self.main = _main_config(self.main)
        refuse_unknown(
            "MetroConfig",
            kwargs,
            FIELDS,
            f"sizes of the model are given as main={{{quoted(next(iter(kwargs), ''))}: ...}}, and "
            f"MetroConfig itself has {', '.join(FIELDS)}",
        )
        backbone = backbone_of(self.main)
        self.auxiliary = _auxiliary_config(self.main, self.auxiliary)
        if self.tied_head is None:
            self.tied_head = backbone.ties_head(self.main)
        if self.forbidden_token_ids is None:
            padding = self.main.pad_token_id
            self.forbidden_token_ids = [] if padding is None else [padding]
        self.forbidden_token_ids = checked_ids("forbidden_token_ids", self.forbidden_token_ids)
        super().__post_init__(**kwargs)
        self.is_encoder_decoder = True
        self.tie_word_embeddings = True  # transformers ties nothing without it
        self.pad_token_id = self.main.pad_token_id
        self.eos_token_id = self.main.eos_token_id
        self.decoder_start_token_id = self.main.decoder_start_token_id
        self.check()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config from a dictionary; see `PreTrainedConfig.from_dict`.

        A saved dictionary may hold names that METRO does not know, which are kept as they are, if
        they are not misspelt ones of METRO's.

        Args:
            config_dict: A config's own `to_dict()`, or the contents of its file.
            **kwargs: Settings that are changed; dictionaries for `main` and `auxiliary` change
                only what they name.

        Raises:
            MetroFastError: If a setting is unknown or wrong.
        """
        kind = config_dict.get("model_type", cls.model_type)
        if kind != cls.model_type:
            raise MetroFastError(
                f"the config is one of {kind}, expected {cls.model_type}: start from a T5 with "
                "MetroForPretraining.from_t5"
            )
        values, with_unused = dict(config_dict), kwargs.pop("return_unused_kwargs", False)
        for name in [name for name in kwargs if name in FIELDS]:
            new, old = kwargs.pop(name), values.get(name)
            merged = isinstance(new, dict) and isinstance(old, dict)
            values[name] = {**(old or {}), **new} if merged else new
        if not with_unused:
            refuse_unknown("MetroConfig", kwargs, FIELDS)
        for part in ("main", "auxiliary"):
            if isinstance(values.get(part), dict) and "model_type" in values[part]:
                backbone_of(values[part]["model_type"])
                values[part] = typed_config(part, values[part])
        kept = {name: values.pop(name) for name in unknown_names(values, FIELDS)}
        misspelt = [name for name in kept if get_close_matches(name, FIELDS, n=1, cutoff=0.8)]
        refuse_unknown("MetroConfig", misspelt, FIELDS)
        made, unused = super().from_dict(values, return_unused_kwargs=True, **kwargs)
        for name, value in kept.items():
            setattr(made, name, value)
        return (made, unused) if with_unused else made

    def __repr__(self) -> str:
        main = self.main
        depths = f"{self.auxiliary.num_layers} + {main.num_layers} + {main.num_decoder_layers}"
        return (
            f"MetroConfig({main.model_type}, d_model={main.d_model}, "
            f"vocab_size={main.vocab_size}, layers {depths}, rtd_head={self.rtd_head!r})"
        )

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return int(self.main.vocab_size)

    @property
    def options(self) -> MetroOptions:
        """The options, checked."""
        return MetroOptions(**{name: getattr(self, name) for name in OPTION_NAMES})

    def check(self) -> None:
        """Check every option; a trainer that changes a weight calls it again.

        Raises:
            MetroFastError: If an option has an unknown value or a number is out of range.
        """
        options = self.options
        check_choice(backbone_of(self.main).sharings, embedding_sharing=options.embedding_sharing)
        _check_widths(self.main, self.auxiliary, options.embedding_sharing)
        for name, kind in (("sampling_seed", int), ("tied_head", bool)):
            if type(getattr(self, name)) is not kind:
                raise TypeError(
                    f"{name} is {quoted(getattr(self, name))}, expected {kind.__name__}"
                )
        if self.main.model_type == "metro_t0" and not self.tied_head:
            raise MetroFastError(
                "tied_head is False, but metro_t0 has one matrix for embeddings and output: leave "
                "tied_head out"
            )
        check_seed(63, sampling_seed=self.sampling_seed)
        check_at_least(1, **{"auxiliary.num_layers": self.auxiliary.num_layers})
        check_fraction(**{"auxiliary.dropout_rate": self.auxiliary.dropout_rate})
        ids = {
            name: getattr(self.main, name) for name in ("pad_token_id", "decoder_start_token_id")
        }
        for place, token in enumerate(self.forbidden_token_ids or ()):
            ids[f"forbidden_token_ids[{place}]"] = token
        for name, value in ids.items():
            if not isinstance(value, int) or not 0 <= value < self.vocab_size:
                owner = "" if name.startswith("forbidden") else "main."
                raise MetroFastError(
                    f"{owner}{name} is {value}, expected an id of the vocabulary "
                    f"[0, {self.vocab_size})"
                )
        if len(set(self.forbidden_token_ids or ())) >= self.vocab_size - 1:
            raise MetroFastError(
                f"forbidden_token_ids names {len(set(self.forbidden_token_ids or ()))} of the "
                f"{self.vocab_size} tokens, so that nothing is left to draw"
            )


def _main_config(given: Any) -> PreTrainedConfig:
    if given is None or isinstance(given, dict):
        values = {"model_type": "t5", **(given or {})}
        backbone_of(values["model_type"])
        given = written_config("main", values)
    if not isinstance(given, PreTrainedConfig):
        raise TypeError(f"main is {type(given).__name__}, expected a config or a dict")
    own = deepcopy(given)  # a resize must not change the config of another model
    backbone_of(own)
    if getattr(own, "decoder_start_token_id", None) is None:
        own.decoder_start_token_id = own.pad_token_id  # as all public T5 checkpoints have it
    return own


def _auxiliary_config(main: PreTrainedConfig, given: Any) -> PreTrainedConfig:
    """The main model's config with the auxiliary's own values in place."""
    if isinstance(given, PreTrainedConfig):
        return deepcopy(given)
    if given is not None and not isinstance(given, dict):
        raise TypeError(f"auxiliary is {type(given).__name__}, expected a config or a dict")
    own = {**AUXILIARY, **(given or {})}
    known = main.to_dict()
    unknown = sorted(set(own) - set(known))
    if unknown:
        raise MetroFastError(
            f"auxiliary sets {', '.join(unknown)}, which a config of {main.model_type} does not "
            f"have; it has {', '.join(sorted(known))}"
        )
    if "feed_forward_proj" in own:  # T5Config makes these of it, unless they are given
        known = {n: v for n, v in known.items() if n not in ("dense_act_fn", "is_gated_act")}
    values = {**known, **own, "num_decoder_layers": own["num_layers"], "use_cache": False}
    return typed_config("auxiliary", values)


def _check_widths(main: Any, auxiliary: Any, sharing: EmbeddingSharing) -> None:
    if main.model_type != auxiliary.model_type:
        raise MetroFastError(
            f"auxiliary.model_type is {quoted(auxiliary.model_type)}, expected that of the main "
            f"model, {quoted(main.model_type)}"
        )
    if main.vocab_size != auxiliary.vocab_size:
        raise MetroFastError(
            f"auxiliary.vocab_size is {auxiliary.vocab_size}, but main.vocab_size is "
            f"{main.vocab_size}: both models read and predict the same tokens"
        )
    same = []
    if sharing != "none":
        same.append("d_model")
    if sharing == "token_rel_norm":
        same += ["num_heads", "relative_attention_num_buckets"]
        if main.model_type == "umt5" and auxiliary.num_layers > main.num_layers:
            raise MetroFastError(
                f"auxiliary.num_layers is {auxiliary.num_layers}, but main.num_layers is "
                f"{main.num_layers}: umt5 has biases in each layer, so with embedding_sharing "
                "'token_rel_norm' the auxiliary model cannot be deeper; use 'token'"
            )
    if sharing in ("token_pos", "token_pos_norm"):
        same.append("max_position_embeddings")
    for name in same:
        if getattr(main, name) != getattr(auxiliary, name):
            raise MetroFastError(
                f"auxiliary.{name} is {getattr(auxiliary, name)}, but main.{name} is "
                f"{getattr(main, name)}: with embedding_sharing {quoted(sharing)} they must be "
                "equal"
            )

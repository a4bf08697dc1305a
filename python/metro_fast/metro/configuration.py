"""The settings of a METRO model, saved beside its weights."""

from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

from metro_fast._ranges import check_at_least, check_choice, check_fraction, check_seed
from metro_fast.errors import MetroFastError
from metro_fast.metro.backbones import backbone_of
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
        TypeError: If `main` or `auxiliary` is neither a config nor a dictionary.

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
        backbone = backbone_of(self.main)
        self.auxiliary = _auxiliary_config(self.main, self.auxiliary)
        if self.tied_head is None:
            self.tied_head = backbone.ties_head(self.main)
        if self.forbidden_token_ids is None:
            self.forbidden_token_ids = [self.main.pad_token_id]
        super().__post_init__(**kwargs)
        self.is_encoder_decoder = True
        self.tie_word_embeddings = True  # transformers ties nothing without it
        self.pad_token_id = self.main.pad_token_id
        self.eos_token_id = self.main.eos_token_id
        self.decoder_start_token_id = self.main.decoder_start_token_id
        self.check()

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
        check_seed(63, sampling_seed=self.sampling_seed)
        check_at_least(1, **{"auxiliary.num_layers": self.auxiliary.num_layers})
        check_fraction(**{"auxiliary.dropout_rate": self.auxiliary.dropout_rate})
        _check_widths(self.main, self.auxiliary, options.embedding_sharing)
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
    if given is None:
        given = {}
    if isinstance(given, dict):
        values = {"model_type": "t5", **given}
        backbone_of(values["model_type"])
        given = _config(values)
    if not isinstance(given, PreTrainedConfig):
        raise TypeError(f"main is {type(given).__name__}, expected a config or a dict")
    if getattr(given, "decoder_start_token_id", None) is None:
        given.decoder_start_token_id = given.pad_token_id  # as all public T5 checkpoints have it
    return given


def _config(values: dict[str, Any]) -> PreTrainedConfig:
    values = dict(values)
    made: PreTrainedConfig = AutoConfig.for_model(values.pop("model_type"), **values)
    return made


def _auxiliary_config(main: PreTrainedConfig, given: Any) -> PreTrainedConfig:
    """The main model's config with the auxiliary's own values in place."""
    if isinstance(given, PreTrainedConfig):
        return given
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
    return _config({**known, **own, "num_decoder_layers": own["num_layers"], "use_cache": False})


def _check_widths(main: Any, auxiliary: Any, sharing: EmbeddingSharing) -> None:
    if main.model_type != auxiliary.model_type:
        raise MetroFastError(
            f"auxiliary.model_type is {auxiliary.model_type!r}, expected that of the main model, "
            f"{main.model_type!r}"
        )
    same = ["vocab_size"]
    if sharing != "none":
        same.append("d_model")
    if sharing == "token_rel_norm":
        same += ["num_heads", "relative_attention_num_buckets"]
    if sharing in ("token_pos", "token_pos_norm"):
        same.append("max_position_embeddings")
    for name in same:
        if getattr(main, name) != getattr(auxiliary, name):
            raise MetroFastError(
                f"auxiliary.{name} is {getattr(auxiliary, name)}, but main.{name} is "
                f"{getattr(main, name)}: with embedding_sharing {sharing!r} they must be equal"
            )

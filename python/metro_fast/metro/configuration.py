"""The settings of a METRO model, saved beside its weights."""

from typing import Any

from transformers import PreTrainedConfig, T5Config

from metro_fast._ranges import check_choice, check_fraction, check_seed
from metro_fast.errors import MetroFastError
from metro_fast.metro.options import (
    OPTION_NAMES,
    DecodingTarget,
    EmbeddingSharing,
    MetroOptions,
    RtdHead,
    RtdTarget,
)

BACKBONES = ("t5",)


class MetroConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """Settings of `MetroForPretraining` (METRO-T0, arXiv 2305.12567).

    The auxiliary model, the losses and their weights are described by `MetroOptions`, whose fields
    are attributes here.

    Attributes:
        main: The main encoder-decoder, a `T5Config` or its dictionary.
        backbone: Architecture of both models: "t5", that of transformers.
        auxiliary_dropout_rate: Dropout of the auxiliary encoder (METRO: 0).
        sampling_seed: Seed of the draws, 0 <= seed < 2^63.

    Raises:
        MetroFastError: If an option has an unknown value or a number is out of range.

    Example:
        >>> config = MetroConfig(main={"vocab_size": 64, "d_model": 8, "d_kv": 4, "num_heads": 2})
        >>> config.main.d_model, config.rtd_weight
        (8, 50.0)
        >>> config
        MetroConfig(d_model=8, vocab_size=64, layers 4 + 6 + 6, rtd_head='encoder')
    """

    model_type = "metro"
    is_composition = True

    main: Any = None
    backbone: str = "t5"
    auxiliary_num_layers: int = MetroOptions.auxiliary_num_layers
    auxiliary_dropout_rate: float = 0.0
    embedding_sharing: EmbeddingSharing = MetroOptions.embedding_sharing
    rtd_head: RtdHead = MetroOptions.rtd_head
    rtd_target: RtdTarget = MetroOptions.rtd_target
    rtd_only: bool = MetroOptions.rtd_only
    weighted_lm_loss: bool = MetroOptions.weighted_lm_loss
    divide_by_mean_weight: bool = MetroOptions.divide_by_mean_weight
    label_smoothing: float = MetroOptions.label_smoothing
    z_loss: float = MetroOptions.z_loss
    decoding_target: DecodingTarget = MetroOptions.decoding_target
    mlm_weight: float = MetroOptions.mlm_weight
    lm_weight: float = MetroOptions.lm_weight
    rtd_weight: float = MetroOptions.rtd_weight
    sampling_temperature: float = MetroOptions.sampling_temperature
    sampling_seed: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        if self.main is None:
            self.main = T5Config(decoder_start_token_id=0)
        elif isinstance(self.main, dict):
            self.main = T5Config(**{"decoder_start_token_id": 0, **self.main})
        elif not isinstance(self.main, T5Config):
            raise TypeError(f"main is {type(self.main).__name__}, expected T5Config or a dict")
        super().__post_init__(**kwargs)
        self.is_encoder_decoder = True
        self.tie_word_embeddings = True  # transformers ties nothing without it
        self.pad_token_id = self.main.pad_token_id
        self.eos_token_id = self.main.eos_token_id
        self.decoder_start_token_id = self.main.decoder_start_token_id
        self.check()

    def __repr__(self) -> str:
        main = self.main
        depths = f"{self.auxiliary_num_layers} + {main.num_layers} + {main.num_decoder_layers}"
        return (
            f"MetroConfig(d_model={main.d_model}, vocab_size={main.vocab_size}, layers {depths}, "
            f"rtd_head={self.rtd_head!r})"
        )

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return int(self.main.vocab_size)

    def auxiliary_config(self) -> T5Config:
        """The auxiliary encoder's config: the main model's widths, its own depth and dropout."""
        settings = self.main.to_dict()
        settings.update(
            num_layers=self.auxiliary_num_layers,
            num_decoder_layers=self.auxiliary_num_layers,
            dropout_rate=self.auxiliary_dropout_rate,
            use_cache=False,
        )
        return T5Config(**settings)

    def check(self) -> None:
        """Check every option; a trainer that changes a weight calls it again.

        Raises:
            MetroFastError: If an option has an unknown value or a number is out of range.
        """
        check_choice(BACKBONES, backbone=self.backbone)
        MetroOptions(**{name: getattr(self, name) for name in OPTION_NAMES})
        check_fraction(auxiliary_dropout_rate=self.auxiliary_dropout_rate)
        check_seed(63, sampling_seed=self.sampling_seed)
        for name in ("pad_token_id", "decoder_start_token_id"):
            value = getattr(self.main, name)
            if not isinstance(value, int) or not 0 <= value < self.vocab_size:
                raise MetroFastError(
                    f"main.{name} is {value}, expected an id of the vocabulary "
                    f"[0, {self.vocab_size})"
                )

"""The settings of a METRO model, saved beside its weights."""

import math
from typing import Any

from transformers import PreTrainedConfig, T5Config

from metro_fast.errors import MetroFastError

CHOICES = {
    "backbone": ("t5",),
    "embedding_sharing": ("none", "token", "token_rel_norm"),
    "rtd_head": ("none", "encoder"),
    "decoding_target": ("all_masked_loss", "all"),
}
SEED_LIMIT = 2**63


class MetroConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """Settings of `MetroForPretraining` (METRO-T0, arXiv 2305.12567).

    Attributes:
        main: The main encoder-decoder, a `T5Config` or its dictionary.
        backbone: Architecture of both models: "t5", that of transformers.
        auxiliary_num_layers: Layers of the auxiliary encoder; widths are the main model's.
        auxiliary_dropout_rate: Dropout of the auxiliary encoder (METRO: 0).
        embedding_sharing: What the auxiliary shares with the main encoder: "none", "token"
            (embeddings), "token_rel_norm" (also the relative bias table and the final norm).
        rtd_head: Where replaced tokens are detected: "encoder", or "none" for no such loss.
        decoding_target: "all_masked_loss": the decoder predicts the whole original, with loss
            at masked positions; "all": with loss everywhere.
        mlm_weight: Weight of the auxiliary model's masked-token loss.
        lm_weight: Weight of the decoder's loss.
        rtd_weight: Weight of replaced-token detection, 50 as in ELECTRA and METRO.
        sampling_temperature: Temperature of the replacements' softmax.
        sampling_seed: Seed of the draws, 0 <= seed < 2^63.

    Raises:
        MetroFastError: If an option has an unknown value or a number is out of range.

    Example:
        >>> config = MetroConfig(main={"vocab_size": 64, "d_model": 8, "d_kv": 4, "num_heads": 2})
        >>> config.main.d_model, config.rtd_weight
        (8, 50.0)
    """

    model_type = "metro"
    is_composition = True

    main: Any = None
    backbone: str = "t5"
    auxiliary_num_layers: int = 4
    auxiliary_dropout_rate: float = 0.0
    embedding_sharing: str = "token"
    rtd_head: str = "encoder"
    decoding_target: str = "all_masked_loss"
    mlm_weight: float = 1.0
    lm_weight: float = 1.0
    rtd_weight: float = 50.0
    sampling_temperature: float = 1.0
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
        self.tie_word_embeddings = True  # transformers asks this before it ties anything
        self.pad_token_id = self.main.pad_token_id
        self.eos_token_id = self.main.eos_token_id
        self.decoder_start_token_id = self.main.decoder_start_token_id
        self.check()

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return int(self.main.vocab_size)

    def auxiliary_config(self) -> T5Config:
        """The auxiliary encoder: the main model's widths, its own depth and dropout."""
        settings = self.main.to_dict()
        settings.update(
            num_layers=self.auxiliary_num_layers,
            num_decoder_layers=self.auxiliary_num_layers,
            dropout_rate=self.auxiliary_dropout_rate,
            use_cache=False,
        )
        return T5Config(**settings)

    def check(self) -> None:
        """Check every option; called again when a trainer changes a weight.

        Raises:
            MetroFastError: If an option has an unknown value or a number is out of range.
        """
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise MetroFastError(
                    f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}"
                )
        if self.auxiliary_num_layers < 1:
            raise MetroFastError(
                f"auxiliary_num_layers is {self.auxiliary_num_layers}, expected at least 1"
            )
        if not 0 <= self.auxiliary_dropout_rate < 1:
            raise MetroFastError(
                f"auxiliary_dropout_rate is {self.auxiliary_dropout_rate}, expected [0, 1)"
            )
        for name in ("mlm_weight", "lm_weight", "rtd_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise MetroFastError(f"{name} is {value}, expected a finite number >= 0")
        if not 1e-6 <= self.sampling_temperature <= 1e6:
            raise MetroFastError(
                f"sampling_temperature is {self.sampling_temperature}, expected 1e-6 to 1e6"
            )
        if not 0 <= self.sampling_seed < SEED_LIMIT:
            raise MetroFastError(
                f"sampling_seed is {self.sampling_seed}, expected 0 <= seed < 2**63"
            )
        for name in ("pad_token_id", "decoder_start_token_id"):
            value = getattr(self.main, name)
            if not isinstance(value, int) or not 0 <= value < self.vocab_size:
                raise MetroFastError(
                    f"main.{name} is {value}, expected an id of the vocabulary "
                    f"[0, {self.vocab_size})"
                )

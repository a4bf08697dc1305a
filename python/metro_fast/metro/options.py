"""METRO's options: the auxiliary model, the losses and their weights, the draws."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from metro_fast._ranges import check_at_least, check_choice, check_not_negative
from metro_fast.errors import MetroFastError

EmbeddingSharing = Literal["none", "token", "token_rel_norm"]
RtdHead = Literal["none", "encoder"]
DecodingTarget = Literal["all_masked_loss", "all"]


@dataclass(frozen=True, kw_only=True)
class MetroOptions:
    """Options that `MetroConfig` and `PretrainConfig` share (METRO-T0, arXiv 2305.12567).

    Attributes:
        auxiliary_num_layers: Layers of the auxiliary encoder; its widths are the main model's.
        embedding_sharing: Weights that the auxiliary encoder shares with the main one: "none",
            "token" (embeddings), or "token_rel_norm" (also the relative bias table and the final
            norm).
        rtd_head: Where replaced tokens are detected: "encoder", or "none" for no such loss.
        decoding_target: With "all_masked_loss" the decoder predicts the whole original, with the
            loss at masked positions; with "all" the loss is taken everywhere.
        mlm_weight: Weight of the auxiliary model's masked-token loss.
        lm_weight: Weight of the decoder's loss.
        rtd_weight: Weight of replaced-token detection, 50 as in ELECTRA and METRO.
        sampling_temperature: Temperature of the softmax that replacements are drawn from.
    """

    auxiliary_num_layers: int = 4
    embedding_sharing: EmbeddingSharing = "token"
    rtd_head: RtdHead = "encoder"
    decoding_target: DecodingTarget = "all_masked_loss"
    mlm_weight: float = 1.0
    lm_weight: float = 1.0
    rtd_weight: float = 50.0
    sampling_temperature: float = 1.0

    def __post_init__(self) -> None:
        check_choice(get_args(EmbeddingSharing), embedding_sharing=self.embedding_sharing)
        check_choice(get_args(RtdHead), rtd_head=self.rtd_head)
        check_choice(get_args(DecodingTarget), decoding_target=self.decoding_target)
        check_at_least(1, auxiliary_num_layers=self.auxiliary_num_layers)
        check_not_negative(
            mlm_weight=self.mlm_weight, lm_weight=self.lm_weight, rtd_weight=self.rtd_weight
        )
        if not 1e-6 <= self.sampling_temperature <= 1e6:
            raise MetroFastError(
                f"sampling_temperature is {self.sampling_temperature}, expected 1e-6 to 1e6"
            )


OPTION_NAMES = tuple(field.name for field in fields(MetroOptions))

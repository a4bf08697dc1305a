"""METRO's options: the auxiliary model, the losses and their weights, the draws."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from metro_fast._ranges import check_at_least, check_choice, check_fraction, check_not_negative
from metro_fast.errors import MetroFastError

EmbeddingSharing = Literal["none", "token", "token_rel_norm"]
RtdHead = Literal["none", "encoder"]
RtdTarget = Literal["all", "masked"]
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
        rtd_target: Tokens with a detection loss: "all" of them, or the "masked" ones only (the
            published code's `masked_positions_only=both`).
        rtd_only: Whether the decoder's loss counts nothing, so that detection and the auxiliary
            model train alone.
        weighted_lm_loss: Whether the decoder's loss of each token is multiplied by the probability,
            without gradient, that the detection head gives to a replacement there.
        divide_by_mean_weight: Whether the loss weighted so is divided by the mean of its weights.
            The mean is that of one forward pass: it is known only afterwards, so the update then
            depends on how a step is split over accumulation steps and ranks.
        label_smoothing: Share of the decoder's target that is spread evenly over the other ids.
        z_loss: Coefficient of the squared logsumexp of the logits, which is added to the
            auxiliary model's and the decoder's loss of each token (T5 and PaLM: 1e-4).
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
    rtd_target: RtdTarget = "all"
    rtd_only: bool = False
    weighted_lm_loss: bool = False
    divide_by_mean_weight: bool = False
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    decoding_target: DecodingTarget = "all_masked_loss"
    mlm_weight: float = 1.0
    lm_weight: float = 1.0
    rtd_weight: float = 50.0
    sampling_temperature: float = 1.0

    def __post_init__(self) -> None:
        check_choice(get_args(EmbeddingSharing), embedding_sharing=self.embedding_sharing)
        check_choice(get_args(RtdHead), rtd_head=self.rtd_head)
        check_choice(get_args(RtdTarget), rtd_target=self.rtd_target)
        check_choice(get_args(DecodingTarget), decoding_target=self.decoding_target)
        check_at_least(1, auxiliary_num_layers=self.auxiliary_num_layers)
        check_not_negative(
            mlm_weight=self.mlm_weight, lm_weight=self.lm_weight, rtd_weight=self.rtd_weight
        )
        check_fraction(label_smoothing=self.label_smoothing)
        check_not_negative(z_loss=self.z_loss)
        self._check_detection()
        if not 1e-6 <= self.sampling_temperature <= 1e6:
            raise MetroFastError(
                f"sampling_temperature is {self.sampling_temperature}, expected 1e-6 to 1e6"
            )

    def _check_detection(self) -> None:
        if self.divide_by_mean_weight and not self.weighted_lm_loss:
            raise MetroFastError(
                "divide_by_mean_weight is True, but weighted_lm_loss is False: there are no weights"
            )
        if self.rtd_head != "none" and self.rtd_weight > 0:
            return
        setting = "rtd_head is 'none'" if self.rtd_head == "none" else "rtd_weight is 0"
        changed = {
            "rtd_target": self.rtd_target != "all",
            "rtd_only": self.rtd_only,
            "weighted_lm_loss": self.weighted_lm_loss,
        }
        for name, given in changed.items():
            if given:
                raise MetroFastError(
                    f"{name} is {getattr(self, name)!r}, but {setting}, so nothing is detected: "
                    f"leave {name} out, or train the detection head"
                )


OPTION_NAMES = tuple(field.name for field in fields(MetroOptions))

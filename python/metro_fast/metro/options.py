"""METRO's options: what is shared, drawn, detected and decoded, and the weights of the losses."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from metro_fast._ranges import check_at_least, check_choice, check_fraction, check_not_negative
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

EmbeddingSharing = Literal[
    "none", "token", "token_rel_norm", "token_pos", "token_pos_norm", "disentangled"
]
SamplingMode = Literal["train", "eval"]
RtdHead = Literal["none", "encoder", "decoder", "both"]
RtdHeadKind = Literal["simple", "deep"]
RtdTarget = Literal["all", "masked"]
DecodingTarget = Literal["masked_only", "all_masked_loss", "all"]

_CHOICES = {
    "embedding_sharing": EmbeddingSharing,
    "sampling_mode": SamplingMode,
    "rtd_head": RtdHead,
    "rtd_head_kind": RtdHeadKind,
    "rtd_target": RtdTarget,
    "decoding_target": DecodingTarget,
}


@dataclass(frozen=True, kw_only=True)
class MetroOptions:
    """Options of a METRO model (METRO-T0, arXiv 2305.12567, and its relatives).

    Attributes:
        embedding_sharing: Weights that the auxiliary encoder shares with the main one: "none";
            "token" (token embeddings); for T5 also "token_rel_norm" (and the relative biases and
            the final norm); for METRO-T0's architecture also "token_pos" (and the positions) and
            "token_pos_norm" (and the norm of the embeddings). With "disentangled" the main table
            follows every update of the auxiliary one and adds its own, but no gradient of the main
            model reaches the auxiliary table (DeBERTaV3's gradient-disentangled sharing, arXiv
            2111.09543).
        sampling_mode: With "train" replacements are drawn from the distribution that the auxiliary
            loss is computed from; with "eval" from a second pass without dropout (COCO-LM).
        sampling_temperature: Temperature of the softmax that replacements are drawn from.
        sampling_top_k: Number of most probable tokens to draw from, or None for all.
        exclude_original: Whether the original token is never drawn (ELECTRA's `disallow_correct`).
        auxiliary_frozen_from: Step from which the auxiliary model no longer learns, or None.
        auxiliary_dropped_from: Step from which the auxiliary model no longer runs, or None. The
            main encoder then reads the masked input of the batch as it is.
        rtd_head: Where replaced tokens are detected: on the top of the "encoder", of the "decoder",
            of "both", or "none" for no such loss.
        rtd_head_kind: The detection head: "deep" has a hidden layer with a norm (METRO-T0's
            `roberta` head), "simple" is one linear layer.
        rtd_target: Tokens with a detection loss: "all" of them, or the "masked" ones only (the
            published code's `masked_positions_only=both`).
        rtd_only: Whether the decoder's loss counts nothing, so that detection and the auxiliary
            model train alone.
        weighted_lm_loss: Whether the decoder's loss of each token is multiplied by the probability,
            without gradient, that the detection head gives to a replacement there.
        divide_by_mean_weight: Whether the loss weighted so is divided by the mean of its weights.
            The mean is that of one forward pass: it is known only afterwards, so the update then
            depends on how a step is split over accumulation steps and ranks.
        mean_weight_with_padding: Whether that mean includes the positions of padding if the
            decoding target is "all", as in the published code. The loss then depends on the width
            of the batch.
        label_smoothing: Share of the decoder's target that is spread evenly over the other ids.
        z_loss: Coefficient of the squared logsumexp of the logits, which is added to the
            auxiliary model's and the decoder's loss of each token (T5 and PaLM: 1e-4).
        decoding_target: With "all_masked_loss" the decoder predicts the whole original, with the
            loss at masked positions; with "all" the loss is taken everywhere; with "masked_only"
            the decoder reads and predicts the masked tokens alone, in their order.
        mlm_weight: Weight of the auxiliary model's masked-token loss.
        lm_weight: Weight of the decoder's loss.
        rtd_weight: Weight of replaced-token detection, 50 as in ELECTRA and METRO; with two heads,
            that of each.
    """

    embedding_sharing: EmbeddingSharing = "token"
    sampling_mode: SamplingMode = "train"
    sampling_temperature: float = 1.0
    sampling_top_k: int | None = None
    exclude_original: bool = False
    auxiliary_frozen_from: int | None = None
    auxiliary_dropped_from: int | None = None
    rtd_head: RtdHead = "encoder"
    rtd_head_kind: RtdHeadKind = "deep"
    rtd_target: RtdTarget = "all"
    rtd_only: bool = False
    weighted_lm_loss: bool = False
    divide_by_mean_weight: bool = False
    mean_weight_with_padding: bool = False
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    decoding_target: DecodingTarget = "all_masked_loss"
    mlm_weight: float = 1.0
    lm_weight: float = 1.0
    rtd_weight: float = 50.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        for name, choices in _CHOICES.items():
            check_choice(get_args(choices), **{name: getattr(self, name)})
        check_not_negative(
            mlm_weight=self.mlm_weight, lm_weight=self.lm_weight, rtd_weight=self.rtd_weight
        )
        check_fraction(label_smoothing=self.label_smoothing)
        check_not_negative(z_loss=self.z_loss)
        self._check_sampling()
        self._check_weights()
        self._check_detection()

    @property
    def detects(self) -> bool:
        """Whether a detection head is trained."""
        return self.rtd_head != "none" and self.rtd_weight > 0

    def _check_sampling(self) -> None:
        if not 1e-6 <= self.sampling_temperature <= 1e6:
            raise MetroFastError(
                f"sampling_temperature is {self.sampling_temperature}, expected 1e-6 to 1e6"
            )
        if self.sampling_top_k is not None:
            check_at_least(2 if self.exclude_original else 1, sampling_top_k=self.sampling_top_k)
        steps = {
            "auxiliary_frozen_from": self.auxiliary_frozen_from,
            "auxiliary_dropped_from": self.auxiliary_dropped_from,
        }
        check_at_least(0, **{name: step for name, step in steps.items() if step is not None})
        frozen, dropped = steps.values()
        if frozen is not None and dropped is not None and frozen >= dropped:
            raise MetroFastError(
                f"auxiliary_frozen_from is {frozen}, but auxiliary_dropped_from is {dropped}: a "
                "model that no longer runs need not be frozen, so leave auxiliary_frozen_from out "
                "or set an earlier step"
            )

    def _check_weights(self) -> None:
        if self.divide_by_mean_weight and not self.weighted_lm_loss:
            raise MetroFastError(
                "divide_by_mean_weight is True, but weighted_lm_loss is False: there are no weights"
            )
        if self.mean_weight_with_padding and not (
            self.divide_by_mean_weight and self.decoding_target == "all"
        ):
            raise MetroFastError(
                "mean_weight_with_padding is True, but it needs divide_by_mean_weight and "
                "decoding_target 'all': set both, or leave it out"
            )

    def _check_detection(self) -> None:
        if self.detects:
            decoder = self.rtd_head in ("decoder", "both")
            if decoder and self.decoding_target == "masked_only" and self.rtd_target == "all":
                raise MetroFastError(
                    f"rtd_head is {quoted(self.rtd_head)}, but with decoding_target 'masked_only' "
                    "the "
                    "decoder has no positions for the other tokens: set rtd_target to 'masked', or "
                    "detect in the encoder"
                )
            return
        setting = "rtd_head is 'none'" if self.rtd_head == "none" else "rtd_weight is 0"
        changed = {
            "rtd_target": self.rtd_target != "all",
            "rtd_head_kind": self.rtd_head == "none" and self.rtd_head_kind != "deep",
            "rtd_only": self.rtd_only,
            "weighted_lm_loss": self.weighted_lm_loss,
        }
        for name, given in changed.items():
            if given:
                raise MetroFastError(
                    f"{name} is {quoted(getattr(self, name))}, but {setting}, so nothing is "
                    f"detected: leave {name} out, or train the detection head"
                )


def _check_type(name: str, value: Any, kind: Any) -> None:
    """Refuse a string where a number is expected, a number where a flag is, and so on."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        bool: (isinstance(value, bool), "True or False"),
        float: (number, "a number"),
        int | None: (value is None or (number and isinstance(value, int)), "an integer or None"),
    }
    if kind in fits and not fits[kind][0]:
        raise TypeError(f"{name} is {quoted(value)}, expected {fits[kind][1]}")


OPTION_NAMES = tuple(field.name for field in fields(MetroOptions))
"""The settings of a METRO model, saved beside its weights."""

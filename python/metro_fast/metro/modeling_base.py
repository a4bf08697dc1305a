"""The parts of a METRO model: how they are built, initialized, tied and resized."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, initialization

from metro_fast.errors import MetroFastError
from metro_fast.metro.backbones import Backbone, backbone_of
from metro_fast.metro.config_checks import refuse_unknown
from metro_fast.metro.configuration import FIELDS, MetroConfig
from metro_fast.metro.heads import MaskedTokenHead, ReplacedTokenHead, VocabularyHead


class MetroPreTrainedModel(PreTrainedModel):  # type: ignore[misc]  # transformers is untyped
    """The modules of `MetroForPretraining`, without the forward pass.

    Args:
        config: The settings.
        main: The main model, whose weights are used, not copied; a new random one if None.

    Raises:
        MetroFastError: If an option is unknown or wrong.
    """

    config_class = MetroConfig
    base_model_prefix = "metro"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _keep_in_fp32_modules = ["wo"]  # noqa: RUF012 (transformers' own convention)
    _supports_sdpa = True
    _supports_flex_attn = True

    def __init__(
        self, config: MetroConfig, main: PreTrainedModel | None = None, **unknown: Any
    ) -> None:
        refuse_unknown("METRO", unknown, FIELDS, "give MetroConfig's settings in the config")
        config.check()  # its attributes can be set after it was made
        super().__init__(config)
        self.backbone: Backbone = backbone_of(config.main)
        self._no_split_modules = list(self.backbone.block)
        activation = self.backbone.activation(config.main)
        self.auxiliary = self.backbone.auxiliary(config.auxiliary)
        with torch.device("meta") if main is not None else nullcontext():
            self.main = self.backbone.main(config.main)
        if not config.tied_head:
            _untie_head(self.main)
        self.mlm_head = MaskedTokenHead(
            config.auxiliary.d_model, config.vocab_size, self.backbone.activation(config.auxiliary)
        )
        layer = activation if config.rtd_head_kind == "deep" else None
        width, where = config.main.d_model, config.rtd_head
        self.rtd_head = ReplacedTokenHead(width, layer) if where in ("encoder", "both") else None
        self.rtd_decoder_head = (
            ReplacedTokenHead(width, layer) if where in ("decoder", "both") else None
        )
        self._tied_weights_keys = self._ties()
        self.post_init()
        if main is not None:
            self.replace_main(main)
        elif config.embedding_sharing == "disentangled":
            _copy(self.main.shared, self.auxiliary.shared)

    def _ties(self) -> dict[str, str]:
        """Every tied weight by its name, with the name of the weight that it is."""
        config = self.config
        between = self.backbone.ties(config.embedding_sharing, config.auxiliary)
        ties = {f"auxiliary.{name}": f"main.{source}" for name, source in between.items()}
        table = ties.get("auxiliary.shared.weight", "auxiliary.shared.weight")
        return {**ties, "mlm_head.projection.weight": table}

    def replace_main(self, main: PreTrainedModel) -> None:
        """Put a loaded main model in the place of the present one, and tie again.

        With disentangled sharing the auxiliary table becomes a copy of the new main one.

        Args:
            main: A model of the main config; its weights are used, not copied.
        """
        if not self.config.tied_head:
            _keep_head_untied(main)
        start = self.config.main.decoder_start_token_id
        for settings in (main.config, main.generation_config):
            if getattr(settings, "decoder_start_token_id", None) is None:
                settings.decoder_start_token_id = start
        self.main, self.config.main = main, main.config
        if self.config.embedding_sharing == "disentangled":
            _copy(self.main.shared, self.auxiliary.shared)
        self.tie_weights()
        self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=True)

    @property
    def auxiliary_head(self) -> VocabularyHead:
        """The head of the auxiliary model; it scales whatever the main head does."""
        return VocabularyHead(
            self.mlm_head.projection,
            scale=self.backbone.tied_scale(self.config.auxiliary),
            transform=self.mlm_head,
            z_loss=self.config.z_loss,
        )

    @property
    def main_head(self) -> VocabularyHead:
        """The head of the main model."""
        return VocabularyHead(
            self.main.lm_head,
            scale=self.backbone.head_scale(self.config.main),
            softcap=self.backbone.head_softcap(self.config.main),
            label_smoothing=self.config.label_smoothing,
            z_loss=self.config.z_loss,
        )

    def get_encoder(self, *args: Any, **options: Any) -> nn.Module:
        """Return the main model's encoder."""
        encoder: nn.Module = self.main.get_encoder(*args, **options)
        return encoder

    def get_decoder(self, *args: Any, **options: Any) -> nn.Module:
        """Return the main model's decoder."""
        decoder: nn.Module = self.main.get_decoder(*args, **options)
        return decoder

    def get_input_embeddings(self) -> nn.Module:
        """Return the main model's token embedding."""
        embedding: nn.Module = self.main.get_input_embeddings()
        return embedding

    def get_output_embeddings(self) -> nn.Module:
        """Return the main model's head."""
        return self.main.lm_head  # type: ignore[no-any-return]

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Module:
        """Resize the tables and heads of both models together.

        Args:
            new_num_tokens: Number of token ids; None for the present one.
            pad_to_multiple_of: The number is rounded up to a multiple of this, or None. The ids
                that fill it up are never drawn.
            mean_resizing: Whether new rows are drawn around the mean of the old ones; see
                `PreTrainedModel.resize_token_embeddings`.

        Returns:
            The main model's token embedding.

        Raises:
            MetroFastError: If an id that the model needs would be cut off, or nothing would be left
                to draw.
        """
        asked = self.config.vocab_size if new_num_tokens is None else new_num_tokens
        multiple = pad_to_multiple_of or 1
        forbidden = _forbidden_after(self.config, asked, -(-asked // multiple) * multiple)
        resized: nn.Embedding = self.main.resize_token_embeddings(
            new_num_tokens, pad_to_multiple_of, mean_resizing
        )
        size = resized.weight.shape[0]
        self.auxiliary.resize_token_embeddings(size, None, mean_resizing)
        for config in (self.config.main, self.config.auxiliary):
            config.vocab_size = size
        old: nn.Linear = self.mlm_head.projection
        if old.out_features != size:
            bias = old.bias.new_zeros(size)
            kept = min(size, old.out_features)
            bias[:kept] = old.bias.detach()[:kept]
            projection = nn.Linear(old.in_features, size, device="meta")
            projection.weight, projection.bias = old.weight, nn.Parameter(bias)
            self.mlm_head.projection = projection
        self.config.forbidden_token_ids = forbidden
        self.tie_weights()
        return resized

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        # Called for each layer: transformers skips a module of a foreign class that has no
        # parameter of its own, so a head cannot be initialized as a whole.
        super()._init_weights(module)
        for head in (self.mlm_head, self.rtd_head, self.rtd_decoder_head):
            if head is not None:
                head.reset(module)


def _forbidden_after(config: MetroConfig, asked: int, size: int) -> list[int]:
    """The ids that are not drawn after a resizing; those that only fill up a multiple are not."""
    needed = {"pad": config.pad_token_id, "decoder_start": config.decoder_start_token_id}
    for place, token in enumerate(
        config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    ):
        needed[f"eos {place}" if place else "eos"] = token
    for name, token in needed.items():
        if token is not None and token >= asked:
            raise MetroFastError(
                f"{asked} token ids would cut off {token}, the id of {name}: keep at least "
                f"{token + 1}"
            )
    forbidden = {token for token in config.forbidden_token_ids or () if token < size}
    forbidden |= set(range(asked, size))
    if len(forbidden) >= size - 1:
        raise MetroFastError(
            f"forbidden_token_ids names {len(forbidden)} of {size} tokens, so that nothing "
            "would be left to draw: keep more tokens"
        )
    return sorted(forbidden)


def _untie_head(main: PreTrainedModel) -> None:
    """Give a T5 a head of its own, as v1.1 and mT5 have; transformers 5 ties every new T5.

    The head starts at N(0, 1/d_model), so that the first logits are of about unit size; T5's own
    N(0, 1) would give a first loss of about d_model.
    """
    _keep_head_untied(main)
    main.lm_head.weight = nn.Parameter(torch.empty_like(main.lm_head.weight))
    initialization.normal_(main.lm_head.weight, std=main.config.d_model**-0.5)


def _keep_head_untied(main: PreTrainedModel) -> None:
    main._tied_weights_keys = {  # of this model alone; the class keeps its own
        name: source for name, source in main._tied_weights_keys.items() if "lm_head" not in name
    }
    main.all_tied_weights_keys = main.get_expanded_tied_weights_keys(all_submodels=True)


@torch.no_grad()
def _copy(source: nn.Embedding, target: nn.Embedding) -> None:
    target.weight.copy_(source.weight)

"""METRO-T0's released architecture as models of transformers: the encoder, and the whole.

It differs from T5 in that LayerNorm comes after each sublayer and after the embeddings, positions
are learned, every linear layer has a bias, attention is scaled, and each encoder layer has its own
table of distances, whereas the decoder has none. One matrix serves both embeddings and the output,
without any factor.
"""

from typing import Any

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoModelForTextEncoding,
    GenerationMixin,
)
from transformers.cache_utils import Cache
from transformers.loss.loss_utils import ForMaskedLMLoss
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.utils.generic import can_return_tuple

from metro_fast.errors import MetroFastError
from metro_fast.metro.configuration_metro_t0 import MetroT0Config
from metro_fast.metro.modeling_metro_t0_stacks import (
    MetroT0Decoder,
    MetroT0Encoder,
    MetroT0PreTrainedModel,
)

IGNORED = -100


class MetroT0EncoderModel(MetroT0PreTrainedModel):
    """The encoder alone, as METRO's auxiliary model is.

    Args:
        config: The settings; the decoder's are not read.

    Example:
        >>> config = MetroT0Config(vocab_size=64, d_model=8, num_heads=2, d_ff=16, num_layers=1)
        >>> ids = Tensor([[0, 9, 8, 2]]).long()
        >>> MetroT0EncoderModel(config)(input_ids=ids).last_hidden_state.shape
        torch.Size([1, 4, 8])
    """

    _tied_weights_keys = {"encoder.embed_tokens.weight": "shared.weight"}  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"decoder", r"lm_head"]  # noqa: RUF012

    def __init__(self, config: MetroT0Config) -> None:
        super().__init__(config)
        self.shared = _embedding(config)
        self.encoder = MetroT0Encoder(config.for_stack(decoder=False))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding."""
        return self.shared

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        self.shared = value
        self.encoder.set_input_embeddings(value)

    def forward(self, *args: Any, **kwargs: Any) -> BaseModelOutput | tuple[Any, ...]:
        """Encode a batch; the arguments are those of `MetroT0Encoder.forward`."""
        output: BaseModelOutput | tuple[Any, ...] = self.encoder(*args, **kwargs)
        return output


class MetroT0ForConditionalGeneration(MetroT0PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """The encoder, the decoder, and an output layer that is the token embedding.

    Args:
        config: The settings.

    Example:
        >>> config = MetroT0Config(vocab_size=64, d_model=8, num_heads=2, d_ff=16, num_layers=1)
        >>> model = MetroT0ForConditionalGeneration(config)
        >>> model.lm_head.weight is model.shared.weight
        True
        >>> ids = Tensor([[0, 9, 8, 2]]).long()
        >>> model(input_ids=ids, labels=ids).logits.shape
        torch.Size([1, 4, 64])
    """

    _tied_weights_keys = {  # noqa: RUF012
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
        "lm_head.weight": "shared.weight",
    }

    def __init__(self, config: MetroT0Config) -> None:
        super().__init__(config)
        self.shared = _embedding(config)
        self.encoder = MetroT0Encoder(config.for_stack(decoder=False))
        self.decoder = MetroT0Decoder(config.for_stack(decoder=True))
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding."""
        return self.shared

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding of both stacks."""
        self.shared = value
        self.encoder.set_input_embeddings(value)
        self.decoder.set_input_embeddings(value)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Compute the logits of a batch, and its loss if there are labels.

        Args:
            input_ids: int64 [B, S], the encoder's input.
            attention_mask: [B, S], 1 at tokens; without it all are tokens.
            decoder_input_ids: int64 [B, L]; made from `labels` if it is left out.
            decoder_attention_mask: [B, L], 1 at tokens.
            encoder_outputs: What the encoder returned, instead of `input_ids`.
            past_key_values: The decoder's cache, which is extended.
            inputs_embeds: [B, S, d_model], instead of `input_ids`.
            decoder_inputs_embeds: [B, L, d_model], instead of `decoder_input_ids`.
            labels: int64 [B, L], -100 where there is no loss.
            use_cache: Whether to make a cache; never with labels.
            num_items_in_batch: Divisor of the summed loss; without it, the loss is a mean.
            **kwargs: Outputs to return, by transformers' names.

        Returns:
            The loss or None, the logits [B, L, vocab_size], and what else was asked for.

        Raises:
            MetroFastError: If a sequence is longer than the learned positions, or an input is
                missing.
        """
        if labels is not None:
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                **kwargs,
            )
        encoded: Any = (
            BaseModelOutput(*encoder_outputs)
            if isinstance(encoder_outputs, (tuple, list))
            else encoder_outputs
        )
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            inputs_embeds=decoder_inputs_embeds,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(decoded.last_hidden_state)
        loss = None
        if labels is not None:
            loss = ForMaskedLMLoss(logits, labels, self.config.vocab_size, num_items_in_batch)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
        )

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Shift labels to the right, behind the decoder's start token; -100 becomes padding.

        Args:
            labels: int64 [B, L].

        Returns:
            int64 [B, L].

        Raises:
            MetroFastError: If the config has no start token or no padding.

        Example:
            >>> config = MetroT0Config(vocab_size=9, d_model=8, num_heads=2, num_layers=1, d_ff=8)
            >>> model = MetroT0ForConditionalGeneration(config)
            >>> model.prepare_decoder_input_ids_from_labels(Tensor([[5, 6, -100, -100]]).long())
            tensor([[2, 5, 6, 1]])
        """
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        if start is None or pad is None:
            raise MetroFastError(
                f"decoder_start_token_id is {start} and pad_token_id is {pad}, expected ids; "
                "set them in the config to train with labels"
            )
        shifted = labels.roll(1, dims=1)
        shifted[:, 0] = start
        return shifted.masked_fill(shifted == IGNORED, pad)


def _embedding(config: MetroT0Config) -> nn.Module:
    return nn.Embedding(config.vocab_size, config.d_model, padding_idx=config.pad_token_id)


AutoConfig.register(MetroT0Config.model_type, MetroT0Config, exist_ok=True)
AutoModel.register(MetroT0Config, MetroT0EncoderModel, exist_ok=True)
AutoModelForSeq2SeqLM.register(MetroT0Config, MetroT0ForConditionalGeneration, exist_ok=True)
AutoModelForTextEncoding.register(MetroT0Config, MetroT0EncoderModel, exist_ok=True)

"""METRO in one model: an auxiliary encoder makes the noise, and the main T5 detects and undoes it.

METRO-T0 (arXiv 2305.12567): the auxiliary encoder fills masked positions with samples of its own
distribution. The main encoder reads them; a head on it distinguishes replaced tokens from
originals, and the decoder predicts the original, which is also its input. No gradient flows through
the samples.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, T5EncoderModel, T5ForConditionalGeneration
from transformers.utils import ModelOutput

from metro_fast.metro.batch_checks import IGNORED, check_batch
from metro_fast.metro.configuration import MetroConfig
from metro_fast.metro.losses import replaced_token_loss_sum, token_loss_sum
from metro_fast.metro.modeling_heads import ReplacedTokenHead, rows_at, tied_logits
from metro_fast.metro.modeling_outputs import MetroOutput
from metro_fast.ops import torch as registered

TOKEN_TIES = {
    "auxiliary.shared.weight": "main.shared.weight",
    "auxiliary.encoder.embed_tokens.weight": "main.shared.weight",
}
_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
_NORM = "encoder.final_layer_norm.weight"
TIES: dict[str, dict[str, str] | None] = {
    "none": None,
    "token": TOKEN_TIES,
    "token_rel_norm": {
        **TOKEN_TIES,
        f"auxiliary.{_BIAS}": f"main.{_BIAS}",
        f"auxiliary.{_NORM}": f"main.{_NORM}",
    },
}


class MetroForPretraining(PreTrainedModel):  # type: ignore[misc]  # transformers is untyped
    """The auxiliary encoder, the main T5 and the detection head.

    Args:
        config: The settings; `config.embedding_sharing` decides which weights are tied.

    Example:
        >>> main = dict(vocab_size=64, d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=1)
        >>> model = MetroForPretraining(MetroConfig(main=main, auxiliary_num_layers=1))
        >>> model.auxiliary.shared.weight is model.main.shared.weight
        True
    """

    config_class = MetroConfig
    base_model_prefix = "metro"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["T5Block"]  # noqa: RUF012 (transformers' own convention)
    _keep_in_fp32_modules = ["wo"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flex_attn = True

    def __init__(self, config: MetroConfig) -> None:
        super().__init__(config)
        self._tied_weights_keys = TIES[config.embedding_sharing]
        self.auxiliary = T5EncoderModel(config.auxiliary_config())
        self.main = T5ForConditionalGeneration(config.main)
        self.rtd_head = (
            ReplacedTokenHead(config.main.d_model) if config.rtd_head == "encoder" else None
        )
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        masked_positions: Tensor,
        sample_ids: Tensor,
        epoch: Tensor | int = 0,
        num_masked: Tensor | int | None = None,
        num_labels: Tensor | int | None = None,
        num_encoder_tokens: Tensor | int | None = None,
    ) -> MetroOutput:
        """Compute the losses of one METRO step, as sums.

        Every parameter takes part, even when nothing is masked (an empty loss is 0 with a gradient
        of 0), because DDP waits for all of them. Vocabulary logits are computed for masked
        positions only, or for all tokens if the decoding target is "all".

        Args:
            input_ids: int64 [B, L], the masked input of the auxiliary model.
            attention_mask: int64 [B, L], 1 at tokens, 0 at padding on the right.
            labels: int64 [B, L], original ids, -100 at padding.
            masked_positions: int64 [M], flat positions of B*L, ascending; M may be 0.
            sample_ids: int64 [B], the id of each row in the corpus, which is a key of the draws.
            epoch: Epoch of the draws, a scalar.
            num_masked: The collator's count, which must agree with the tensors.
            num_labels: The same for the labels.
            num_encoder_tokens: The same for the attention mask.

        Returns:
            Sums, counters, and the sampled tokens.

        Raises:
            TypeError: If a dtype is wrong.
            MetroFastError: If a shape, id, position or count is wrong.
        """
        check_batch(
            vocab_size=self.config.vocab_size,
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            masked_positions=masked_positions,
            sample_ids=sample_ids,
            num_masked=num_masked,
            num_labels=num_labels,
            num_encoder_tokens=num_encoder_tokens,
        )
        original = labels.masked_fill(labels == IGNORED, self.config.pad_token_id)
        targets = original.flatten()[masked_positions]
        mlm_logits = self._auxiliary_logits(input_ids, attention_mask, masked_positions)
        sampled = self._sample(mlm_logits, masked_positions, sample_ids, epoch, labels.shape[1])
        encoder_ids = original.flatten().scatter(0, masked_positions, sampled).view_as(original)
        tokens = attention_mask.bool()
        replaced = (encoder_ids != original) & tokens
        masked = torch.zeros_like(tokens).flatten()
        masked[masked_positions] = True

        hidden = self.main.encoder(
            input_ids=encoder_ids, attention_mask=attention_mask
        ).last_hidden_state
        output = MetroOutput(
            mlm_loss_sum=token_loss_sum(mlm_logits, targets, z_loss=self.config.z_loss),
            num_masked=masked_positions.new_tensor(masked_positions.numel()),
            num_encoder_tokens=tokens.sum(),
            num_replaced=replaced.sum(),
            mlm_correct=(mlm_logits.detach().argmax(-1) == targets).sum(),
            replaced=replaced,
            sampled_ids=sampled,
            encoder_ids=encoder_ids,
        )
        self._detect(output, hidden, replaced, tokens, masked.view_as(tokens))
        if self.config.decoding_target == "all":
            scored = tokens.flatten().nonzero().squeeze(1)
        else:
            scored = masked_positions
        correct = self._decode(output, hidden, original, attention_mask, scored)
        changed = replaced.flatten()[scored]
        output.lm_correct_masked = (correct & masked[scored]).sum()
        output.lm_scored_replaced = changed.sum()
        output.lm_correct_replaced = (correct & changed).sum()
        output.lm_correct_unreplaced = (correct & ~changed).sum()
        return output

    def _auxiliary_logits(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        hidden = self.auxiliary(input_ids=ids, attention_mask=mask).last_hidden_state
        scaled = self.config.main.scale_decoder_outputs
        return tied_logits(rows_at(hidden, positions), self.auxiliary.shared.weight, scaled=scaled)

    def _sample(
        self, logits: Tensor, positions: Tensor, sample_ids: Tensor, epoch: Tensor | int, width: int
    ) -> Tensor:
        if not positions.numel():
            return positions
        # A tensor, so that a compiled step reads the epoch when it runs.
        seed_epoch = torch.empty(2, dtype=torch.int64, device="cpu")
        seed_epoch[0], seed_epoch[1] = self.config.sampling_seed, epoch
        # Drawn on the CPU whatever the device, so that equal logits give equal tokens.
        sampled: Tensor = registered.sample_replacements(
            logits.detach().cpu(),
            seed_epoch,
            sample_ids[positions // width].cpu(),
            (positions % width).cpu(),
            self.config.sampling_temperature,
        ).to(logits.device)
        return sampled

    def _detect(
        self, output: MetroOutput, hidden: Tensor, replaced: Tensor, tokens: Tensor, masked: Tensor
    ) -> None:
        if self.rtd_head is None:
            zero = replaced.new_zeros((), dtype=torch.int64)
            output.rtd_loss_sum = zero.float()
            output.rtd_true_positive = output.rtd_false_positive = zero
            return
        logits = self.rtd_head(hidden)
        scored = masked if self.config.rtd_target == "masked" else tokens
        output.rtd_loss_sum = replaced_token_loss_sum(logits, replaced, scored)
        output.rtd_logits = logits.detach().float()
        detected = (output.rtd_logits >= 0) & tokens
        output.rtd_true_positive = (detected & replaced).sum()
        output.rtd_false_positive = (detected & ~replaced).sum()

    def _decode(
        self,
        output: MetroOutput,
        hidden: Tensor,
        original: Tensor,
        attention_mask: Tensor,
        scored: Tensor,
    ) -> Tensor:
        """Add the decoder's loss, and return which scored tokens it ranks first: bool [scored]."""
        decoder_ids = original.roll(1, dims=1)
        decoder_ids[:, 0] = self.config.decoder_start_token_id
        # Padding is on the right, so the causal mask hides it from every token.
        decoded = self.main.decoder(
            input_ids=decoder_ids,
            encoder_hidden_states=hidden,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        ).last_hidden_state
        logits = tied_logits(
            rows_at(decoded, scored),
            self.main.lm_head.weight,
            scaled=self.config.main.scale_decoder_outputs,
        )
        targets = original.flatten()[scored]
        weights = self._row_weights(output, scored)
        output.lm_loss_sum = token_loss_sum(
            logits,
            targets,
            row_weights=weights,
            label_smoothing=self.config.label_smoothing,
            z_loss=self.config.z_loss,
        )
        output.num_scored = scored.new_tensor(scored.numel())
        return logits.detach().argmax(-1) == targets

    def _row_weights(self, output: MetroOutput, scored: Tensor) -> Tensor | None:
        """Factors of the decoder's losses: the probability that each token was replaced."""
        if not self.config.weighted_lm_loss or output.rtd_logits is None:
            return None
        weights = output.rtd_logits.sigmoid().flatten()[scored]
        if self.config.divide_by_mean_weight:
            # Without rows the sum is 0, and the product an empty tensor.
            weights = weights * (scored.numel() / weights.sum().clamp_min(1e-30))
        return weights

    def generate(self, *args: Any, **options: Any) -> Tensor | ModelOutput:
        """Generate text with the main model: `main.generate`."""
        generated: Tensor | ModelOutput = self.main.generate(*args, **options)
        return generated

    def save_main(self, path: str | Path) -> None:
        """Save the main model as a plain T5, which `AutoModelForSeq2SeqLM` loads.

        Raises:
            OSError: If the folder cannot be written.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        self.main.save_pretrained(folder)

    def get_input_embeddings(self) -> nn.Module:
        """Return the main model's token embedding."""
        embedding: nn.Module = self.main.get_input_embeddings()
        return embedding

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        # Called for each layer: transformers skips a module of a foreign class that has no
        # parameter of its own, so the head cannot be initialized as a whole.
        super()._init_weights(module)
        if self.rtd_head is not None:
            self.rtd_head.reset(module)

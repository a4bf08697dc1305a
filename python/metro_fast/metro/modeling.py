"""METRO in one model: an auxiliary encoder makes noise, and the main model detects and undoes it.

METRO-T0 (arXiv 2305.12567): the auxiliary encoder fills masked positions with samples of its own
distribution. The main encoder reads them; a head distinguishes replaced tokens from originals, and
the decoder predicts the original, which is also its input. No gradient flows through the samples.
"""

from pathlib import Path
from typing import Any, Self

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from metro_fast._pretrained import check_source, check_weights, save_seq2seq
from metro_fast.errors import MetroFastError
from metro_fast.metro.batch_checks import IGNORED, check_batch
from metro_fast.metro.configuration import MetroConfig
from metro_fast.metro.decoding import predict_originals
from metro_fast.metro.detection import detect
from metro_fast.metro.draws import draw_of
from metro_fast.metro.loading import (
    differences,
    hub_options,
    take_generation_settings,
    wanted_config,
    with_other_options,
)
from metro_fast.metro.modeling_base import MetroPreTrainedModel
from metro_fast.metro.modeling_outputs import MetroOutput
from metro_fast.metro.noise import AuxiliaryStage, fill_masks
from metro_fast.metro.starting import AuxiliarySource, start_from
from metro_fast.metro.targets import decoder_targets, decoder_targets_outside_graph


class MetroForPretraining(MetroPreTrainedModel):
    """The auxiliary encoder, the main encoder-decoder and the detection heads.

    Args:
        config: The settings; `config.embedding_sharing` decides which weights are tied.

    Example:
        >>> main = dict(vocab_size=64, d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=1)
        >>> model = MetroForPretraining(MetroConfig(main=main, auxiliary={"num_layers": 1}))
        >>> model.auxiliary.shared.weight is model.main.shared.weight
        True
    """

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
        auxiliary: AuxiliaryStage = "trained",
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
            auxiliary: "frozen" runs the auxiliary model without gradients; with "dropped" it does
                not run, and the main encoder reads `input_ids`.

        Returns:
            A record for each loss, and the sampled tokens.

        Raises:
            TypeError: If a dtype is wrong.
            MetroFastError: If a shape, id, position or count is wrong.
        """
        check_batch(
            vocab_size=self.config.vocab_size,
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            epoch=epoch,
            masked_positions=masked_positions,
            sample_ids=sample_ids,
            num_masked=num_masked,
            num_labels=num_labels,
            num_encoder_tokens=num_encoder_tokens,
        )
        config, tokens = self.config, attention_mask.bool()
        original = labels.masked_fill(labels == IGNORED, config.pad_token_id)
        mlm, sampled = fill_masks(
            self,
            input_ids,
            attention_mask,
            original,
            masked_positions,
            draw_of(config, sample_ids, epoch, masked_positions, width=labels.shape[1]),
            stage=auxiliary,
        )
        encoder_ids = original.flatten().scatter(0, masked_positions, sampled).view_as(original)
        output = MetroOutput(
            mlm=mlm,
            encoder_ids=encoder_ids,
            replaced=(encoder_ids != original) & tokens,
            masked_positions=masked_positions,
            sampled_ids=sampled,
        )
        static = config.decoding_target == "all_masked_loss"
        make_targets = decoder_targets if static else decoder_targets_outside_graph
        targets = make_targets(config, original, tokens, masked_positions)
        encoded = self.main.encoder(
            input_ids=encoder_ids, attention_mask=attention_mask
        ).last_hidden_state
        # Padding is on the right, so the causal mask hides it from every token.
        decoded = self.main.decoder(
            input_ids=targets.decoder_ids,
            encoder_hidden_states=encoded,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        ).last_hidden_state
        detect(self, output, encoded, decoded, targets, tokens)
        predict_originals(self, output, decoded, targets)
        return output

    @classmethod
    def from_t5(
        cls,
        name: str | Path,
        *,
        auxiliary: AuxiliarySource | str | Path = "first_layers",
        tokenizer: PreTrainedTokenizerBase | None = None,
        auxiliary_config: dict[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Start METRO from a T5 that exists; the main model computes exactly what that T5 does.

        Args:
            name: Folder, or name on the Hub: T5 v1.0 or v1.1, FLAN, mT5, umT5, or METRO-T0.
            auxiliary: First weights of the auxiliary encoder: "first_layers" of the main encoder,
                "random", or the folder or Hub name of an encoder of the same kind.
            tokenizer: Its special tokens and sentinels, and ids that it does not have, are never
                drawn; without it only the padding token is not.
            auxiliary_config: What the auxiliary encoder has of its own; see `MetroConfig`. By
                default it has the first 4 layers, or all if there are fewer, or the sizes of the
                encoder that it starts from.
            **options: Other fields of `MetroConfig`; `dtype`, the type of the weights, by default
                fp32, since most weights of 16 bits would not move in training, or "auto" for that
                of the checkpoint; `attn_implementation`.

        Raises:
            FileNotFoundError: If the folder does not exist or holds no model.
            MetroFastError: If an option is wrong, the architecture is not supported, the tokenizer
                has more ids than the model, or the auxiliary weights do not fit.
            FormatError: If a file is damaged, or a weight is missing.
            OSError: If the Hub does not have it, or cannot be reached.

        Example:
            >>> from transformers import T5Config, T5ForConditionalGeneration
            >>> sizes = dict(vocab_size=64, d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=2)
            >>> T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained("t5")
            >>> model = MetroForPretraining.from_t5("t5", auxiliary_config={"num_layers": 1})
            >>> model.config
            MetroConfig(t5, d_model=8, vocab_size=64, layers 1 + 2 + 2, rtd_head='encoder')
        """
        options["auxiliary"] = auxiliary_config
        model: Self = start_from(cls, name, source=auxiliary, tokenizer=tokenizer, options=options)
        return model

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, allow_other_options: bool = False, **options: Any
    ) -> Self:
        """Load a METRO checkpoint, whole.

        Args:
            name: Folder, or name on the Hub.
            allow_other_options: Whether `options` may ask for another sharing or other detection
                heads than the checkpoint has. Weights that become shared are then the main
                model's, and a new head starts at random.
            **options: Fields of `MetroConfig` to change, and the options of
                `PreTrainedModel.from_pretrained`.

        Raises:
            MetroFastError: If the options need other weights than the checkpoint has.
            FormatError: If a weight is missing, superfluous or of another shape.
            FileNotFoundError: If the folder does not exist or holds no config.json.
            OSError: If the Hub does not have it, or cannot be reached.
        """
        if "subfolder" not in options:
            check_source(name)
        with_info = options.pop("output_loading_info", False)
        config, options = wanted_config(name, options)
        before = MetroConfig.from_pretrained(name, **hub_options(options))
        changed = differences(before, config)
        if changed and not allow_other_options:
            raise MetroFastError(
                f"{name} was made with other options ({'; '.join(changed)}): load it as it is, or "
                "pass allow_other_options=True"
            )
        loaded: Self
        loaded, info = super().from_pretrained(
            name, config=before if changed else config, output_loading_info=True, **options
        )
        check_weights(info, name)
        take_generation_settings(loaded, name, options)
        if changed:
            loaded = with_other_options(loaded, config)
        found: Any = (loaded, info) if with_info else loaded
        return found  # type: ignore[no-any-return]

    def generate(self, *args: Any, **options: Any) -> Tensor | ModelOutput:
        """Generate text with the main model: `main.generate`."""
        generated: Tensor | ModelOutput = self.main.generate(*args, **options)
        return generated

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Save the whole model, and the main model's settings of generation beside it.

        Args:
            save_directory: Folder to make or to write to.
            **options: Those of `PreTrainedModel.save_pretrained`.

        Raises:
            OSError: If the folder cannot be written.
        """
        if options.get("is_main_process", True):
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            self.main.generation_config.save_pretrained(save_directory)
        super().save_pretrained(save_directory, **options)

    def save_main(self, path: str | Path) -> None:
        """Save the main model as a plain model, which `AutoModelForSeq2SeqLM` loads.

        A head of its own stays its own.

        Raises:
            MetroFastError: If it is wrapped, as by an adapter of PEFT.
            OSError: If the folder cannot be written.
        """
        if not isinstance(self.main, PreTrainedModel):
            raise MetroFastError(
                f"the main model is a {type(self.main).__name__}, which saves its own weights "
                "alone: set model.main = model.main.merge_and_unload() first"
            )
        save_seq2seq(self.main, Path(path))

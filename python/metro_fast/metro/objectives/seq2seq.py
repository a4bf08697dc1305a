"""The model and the loss that the baselines share: an encoder-decoder and its cross-entropy."""

from typing import Any

from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from metro_fast._pretrained import explained, load_seq2seq
from metro_fast._shown import quoted
from metro_fast._training import Seq2SeqObjective
from metro_fast.metro.objectives.recipe import ModelPlan


def seq2seq_model(plan: ModelPlan) -> PreTrainedModel:
    """Make the encoder-decoder, or load it with its own config.

    Any encoder-decoder of transformers that shifts labels by itself can be loaded: T5 and its
    relatives, T5Gemma, ...

    Raises:
        FormatError: If it cannot be made or loaded, or is not an encoder-decoder.
        OSError: If it is not there.
    """
    model: PreTrainedModel
    if plan.init is not None:
        model = load_seq2seq(plan.init)
        if plan.attn_implementation is not None:
            with explained(f"attention {quoted(plan.attn_implementation)}"):
                model.set_attn_implementation(plan.attn_implementation)
        return model
    with explained("a model of these settings"):
        model = AutoModelForSeq2SeqLM.from_config(
            plan.main, attn_implementation=plan.attn_implementation
        )
    return model


def seq2seq_losses(model: Any) -> Seq2SeqObjective:
    """The cross-entropy of the decoder; labels are shifted as the model shifts them.

    Args:
        model: An encoder-decoder with `prepare_decoder_input_ids_from_labels`.
    """
    # T5Gemma keeps the size of its vocabulary in the config of its decoder.
    decoder = model.config.get_text_config(decoder=True)
    return Seq2SeqObjective(decoder.vocab_size, model.prepare_decoder_input_ids_from_labels)


def no_auxiliary(settings: Any, auxiliary: Any) -> None:
    """Check nothing: the settings of a baseline are checked by themselves."""

"""Names and types of METRO's settings: a wrong one is named, never ignored."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

_INHERITED = frozenset(
    {
        "model_type", "transformers_version", "architectures", "dtype", "torch_dtype",
        "name_or_path", "attn_implementation", "experts_implementation", "output_attentions",
        "output_hidden_states", "return_dict", "chunk_size_feed_forward", "is_encoder_decoder",
        "id2label", "label2id", "num_labels", "problem_type", "quantization_config", "auto_map",
        "per_layer_config", "tie_word_embeddings", "use_cache", "is_decoder", "bos_token_id",
        "pad_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id",
        "cross_attention_hidden_size", "add_cross_attention", "task_specific_params",
    }
)  # fmt: skip
"""Settings that a config has from transformers, by several of its versions."""


def unknown_names(given: Iterable[str], known: Iterable[str]) -> list[str]:
    """The names that are neither known nor inherited from transformers."""
    known = {*known, *_INHERITED}
    return sorted(name for name in given if name not in known and not name.startswith("_"))


def refuse_unknown(owner: str, given: Iterable[str], known: Iterable[str], hint: str = "") -> None:
    """Refuse settings that nobody reads.

    Args:
        owner: The thing that would have the settings, for the message.
        given: Their names.
        known: The names that are read.
        hint: Advice if no known name is similar.

    Raises:
        MetroFastError: If a name is not known.

    Example:
        >>> refuse_unknown("a config", ["d_modle"], ["d_model", "d_ff"])
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: a config has no setting d_modle: did you mean d_model?
    """
    known = sorted(known)
    unknown = unknown_names(given, known)
    if not unknown:
        return
    close = get_close_matches(unknown[0], known, n=1, cutoff=0.7)
    advice = (
        f"did you mean {close[0]}?"
        if close
        else hint or f"it has {', '.join(unknown_names(known, ()))}"
    )
    raise MetroFastError(f"{owner} has no setting {', '.join(unknown)}: {advice}")


def typed_config(owner: str, values: dict[str, Any]) -> PreTrainedConfig:
    """Make the config of a `model_type`.

    Args:
        owner: Its name, for the message.
        values: Its settings, and `model_type`.

    Raises:
        TypeError: If a setting has a wrong type.
    """
    values = dict(values)
    try:
        made: PreTrainedConfig = AutoConfig.for_model(values.pop("model_type"), **values)
    except StrictDataclassError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise TypeError(f"{owner} has a setting of a wrong type: {' '.join(lines)}") from error
    return made


def written_config(owner: str, values: dict[str, Any]) -> PreTrainedConfig:
    """Make the config of a dictionary that a person wrote, in which an unknown name is an error.

    A saved config's dictionary, which names its `architectures`, may hold names of its own, such as
    the `n_positions` of the public T5 checkpoints.

    Args:
        owner: Its name, for the message.
        values: Its settings, and `model_type`.

    Raises:
        MetroFastError: If a config of that kind does not have a setting.
        TypeError: If a setting has a wrong type.
    """
    if "architectures" in values or "transformers_version" in values:
        return typed_config(owner, values)
    plain = AutoConfig.for_model(values["model_type"])
    refuse_unknown(
        f"{owner}, a config of {values['model_type']},",
        values,
        {*plain.to_dict(), *plain.attribute_map},
    )
    return typed_config(owner, values)


def checked_ids(name: str, given: Any) -> list[int]:
    """Token ids as a list.

    Raises:
        TypeError: If they are not a list or tuple of integers.
    """
    if not isinstance(given, list | tuple):
        raise TypeError(f"{name} is {quoted(given)}, expected a list of token ids")
    for place, token in enumerate(given):
        if not isinstance(token, int) or isinstance(token, bool):
            raise TypeError(f"{name}[{place}] is {quoted(token)}, expected an integer")
    return list(given)

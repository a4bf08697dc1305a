"""Models and tokenizers from a folder or the Hub, and one clear error if they do not load."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._atomic import write_atomically
from metro_fast._extras import require
from metro_fast._hub_answers import check_hub
from metro_fast._json import parse_json
from metro_fast._memory import check_file
from metro_fast._tokenizer_files import has_tokenizer, read_tokenizer
from metro_fast.errors import FormatError, MetroFastError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "check_source",
    "check_weights",
    "explained",
    "has_tokenizer",
    "load_causal",
    "load_model",
    "load_seq2seq",
    "load_tokenizer",
    "save_seq2seq",
]

_KINDS = {
    "AutoModelForSeq2SeqLM": "an encoder-decoder: give a T5, or another model that",
    "AutoModelForCausalLM": "a causal language model: give a GPT, or another model that",
}


@contextmanager
def explained(subject: str) -> Iterator[None]:
    """Turn the errors that libraries raise over damaged or unfit files into one `FormatError`.

    Args:
        subject: The thing that is being loaded, for the message.

    Raises:
        FormatError: In place of errors about values, keys, shapes, JSON and safetensors.
        OSError: In place of those of transformers about a name that is not found.

    Example:
        >>> with explained("the answer"):
        ...     {}["question"]
        Traceback (most recent call last):
        ...
        metro_fast._core.FormatError: the answer cannot be loaded (KeyError: 'question')
    """
    damaged = require("safetensors", "train").SafetensorError
    try:
        yield
    except MetroFastError:
        raise
    except OSError as error:
        if error.filename is not None or "\n" not in str(error):
            raise
        # transformers' text about a name that neither the Hub nor the disk has is many lines, and
        # may leave the name out.
        first = str(error).strip().partition("\n")[0]
        raise OSError(f"{subject} is neither a folder nor found on the Hub: {first}") from error
    except (ValueError, KeyError, RuntimeError, AttributeError, EOFError, damaged) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2])[:300]
        name = type(error).__name__
        raise FormatError(f"{subject} cannot be loaded ({name}: {reason})") from error


def load_tokenizer(name: str | Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a model.

    A folder without tokenizer files is refused, because transformers would make a blank tokenizer
    of the model's class, which turns every text into unknown tokens.

    Args:
        name: Folder, or name on the Hub.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no tokenizer.
        FormatError: If one of its files is damaged, or its vocabulary does not have the layout that
            its declared class expects.
        MissingExtraError: If it needs sentencepiece, and that is not installed.
        OSError: If the Hub does not have it, or cannot be reached.
    """
    folder = _folder(name)
    if folder is not None and not has_tokenizer(folder):
        raise FileNotFoundError(
            f"{folder} holds no tokenizer, that is, no tokenizer.json, tokenizer_config.json or "
            "SentencePiece model: give a folder that a model was saved to with its tokenizer"
        )
    with explained(f"the tokenizer at {name}"):
        check_hub(name, folder)
        return read_tokenizer(name, folder)


def check_source(name: str | Path) -> None:
    """Refuse a path that is not the folder of a model; a name on the Hub is not looked up.

    Args:
        name: Folder, or name on the Hub.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no config.json.
        NotADirectoryError: If it is a file.
    """
    folder = _folder(name)
    if folder is not None and not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json: give the folder of a model")


def load_seq2seq(name: str | Path, dtype: Any = None) -> "PreTrainedModel":
    """Load an encoder-decoder model, whole.

    Args:
        name: Folder, or name on the Hub.
        dtype: The type of its weights; None for that of the checkpoint.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no config.json.
        FormatError: If one of its files is damaged, a weight is missing or has no place in the
            model, or it is another kind of model.
        OSError: If the Hub does not have it, or cannot be reached, or a file of weights is missing.
    """
    return _load("AutoModelForSeq2SeqLM", name, dtype)


def load_causal(name: str | Path, dtype: Any = None) -> "PreTrainedModel":
    """Load a causal (decoder-only) language model, whole.

    Args:
        name: Folder, or name on the Hub.
        dtype: The type of its weights; None for that of the checkpoint.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no config.json.
        FormatError: If one of its files is damaged, a weight is missing or has no place in the
            model, or it is another kind of model.
        OSError: If the Hub does not have it, or cannot be reached, or a file of weights is missing.
    """
    return _load("AutoModelForCausalLM", name, dtype)


def load_model(name: str | Path, dtype: Any = None) -> "PreTrainedModel":
    """Load an encoder-decoder or a causal language model, whichever its config describes.

    Args:
        name: Folder, or name on the Hub.
        dtype: The type of its weights; None for that of the checkpoint.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no config.json.
        FormatError: If one of its files is damaged, a weight is missing or has no place in the
            model, or it is not a language model.
        OSError: If the Hub does not have it, or cannot be reached, or a file of weights is missing.

    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
        >>> T5ForConditionalGeneration(T5Config(vocab_size=16, **sizes)).save_pretrained("whole-t5")
        >>> load_model("whole-t5").config.model_type
        't5'
    """
    folder = _folder(name)
    if folder is not None:
        _check_config(folder)
    with explained(f"the model at {name}"):
        check_hub(name, folder)
        config = require("transformers", "train").AutoConfig.from_pretrained(name)
    both = getattr(config, "is_encoder_decoder", False)
    return (load_seq2seq if both else load_causal)(name, dtype)


def check_weights(info: Mapping[str, Any], name: str | Path, *, part: bool = False) -> None:
    """Refuse a checkpoint that does not hold exactly the weights of its model.

    transformers leaves missing weights random and drops those without a place, both with no more
    than a warning. Names that it knows to be harmless (tied weights, buffers of older versions)
    are not in its lists.

    Args:
        info: The loading information of `from_pretrained`.
        name: The checkpoint, for the message.
        part: Whether only a part of the checkpoint is wanted, so that it may hold more weights.

    Raises:
        FormatError: If a weight is missing, has no place in the model, or is of another shape.

    Example:
        >>> check_weights({"missing_keys": {"lm_head.weight"}}, "folder")
        Traceback (most recent call last):
        ...
        metro_fast._core.FormatError: the model at folder lacks lm_head.weight (1 weight in all): \
the folder is damaged, or its config.json is that of another model
    """
    for key, verb in (
        ("missing_keys", "lacks"),
        ("unexpected_keys", "has no place for its"),
        ("mismatched_keys", "has another shape of"),
    ):
        # A mismatch is listed with both shapes.
        found = [entry if isinstance(entry, str) else entry[0] for entry in info.get(key) or ()]
        if found and not (part and key == "unexpected_keys"):
            count = f"{len(found)} weight{'' if len(found) == 1 else 's'} in all"
            raise FormatError(
                f"the model at {name} {verb} {', '.join(sorted(found)[:3])} ({count}): the folder "
                "is damaged, or its config.json is that of another model"
            )


def _load(kind: str, name: str | Path, dtype: Any) -> "PreTrainedModel":
    """Load a model by one of the automatic classes of transformers, and check its weights."""
    folder = _folder(name)
    if folder is not None:
        _check_config(folder)
    with explained(f"the model at {name}"):
        check_hub(name, folder)
        auto = getattr(require("transformers", "train"), kind)
        typed = {} if dtype is None else {"dtype": dtype}
        try:
            found, info = auto.from_pretrained(name, output_loading_info=True, **typed)
        except ValueError as error:
            if "Unrecognized configuration class" not in str(error):
                raise
            raise FormatError(f"the model at {name} is not {_KINDS[kind]} {kind} loads") from error
    check_weights(info, name)
    model: PreTrainedModel = found
    return model


def save_seq2seq(model: "PreTrainedModel", folder: Path) -> None:
    """Save an encoder-decoder model as `AutoModelForSeq2SeqLM` loads it.

    transformers 5 writes `tie_word_embeddings: true` for every T5, and older ones would then tie a
    head that is not tied. The config that is written here says what the model does.

    Args:
        model: The model.
        folder: The folder, which is made if it is missing.

    Raises:
        OSError: If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    head = model.get_output_embeddings()
    tied = any(
        module is not head and getattr(module, "weight", None) is head.weight
        for module in model.modules()
    )
    if not tied and model.config.tie_word_embeddings:
        written = model.config.to_dict() | {"tie_word_embeddings": False}
        write_atomically(folder / "config.json", json.dumps(written, indent=2) + "\n")


def _folder(name: str | Path) -> Path | None:
    """The folder that a name stands for, or None for a name on the Hub."""
    text, folder = str(name), Path(name)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NotADirectoryError(f"{folder} is a file, expected the folder of a model")
    if isinstance(name, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise FileNotFoundError(f"{folder} does not exist: give the folder of a model")
    return None


def _check_config(folder: Path) -> None:
    """Refuse a folder without a model, or with a METRO model, whose main part is meant."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json: give the folder of a model")
    check_file(path)
    config = parse_json(path.read_bytes(), path)
    if isinstance(config, dict) and config.get("model_type") == "metro":
        raise FormatError(
            f"{folder} holds a METRO model; its plain T5 is {folder / 'main'}: give that folder"
        )

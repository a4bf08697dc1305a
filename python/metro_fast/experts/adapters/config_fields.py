"""The fields of adapter_config.json: what each may hold, before anything reads it.

A stranger may have written the file. PEFT checks little of it, and some of its fields make it
compute, allocate, read files or import a module; so every field that PEFT 0.21 has for the kinds of
adapters that experts have is checked here. Fields that it does not have it ignores, and so do we.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from metro_fast._shown import shown
from metro_fast.errors import FormatError
from metro_fast.experts.adapters.patterns import MOST_CHARACTERS, Patterns

MOST_ENTRIES = 65_536
"""Most entries of a list or an object: more than models have modules."""

_MOST_WHOLE = 1 << 20
"""The largest rank, number of tokens, layers or heads: 16 times what any model has."""

_MOST_LAYERS = 1000
"""The most layers that `layer_replication` may make."""

_NAME = 1000
"""Most characters of a module's name, as for the names of tensors."""

_TEXT = 4096
"""Most characters of a path, a name on the Hub, or a version."""


class _Rule(NamedTuple):
    """The values that a field may hold, as a test and in words."""

    accepts: Callable[[Any], bool]
    expected: str


def _whole(value: Any, least: int = 0, most: int = _MOST_WHOLE) -> bool:
    return type(value) is int and least <= value <= most


def _number(value: Any, least: float = -1e300, most: float = 1e300) -> bool:
    # Python compares whole numbers of any size with floats exactly, and NaN with nothing.
    return type(value) in (int, float) and least <= value <= most


def _text(value: Any, most: int = _TEXT) -> bool:
    if not isinstance(value, str) or len(value) > most:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _printable(value: Any, most: int) -> bool:
    return _text(value, most) and value.isprintable() and value != ""


def _name(value: Any) -> bool:
    return _printable(value, _NAME)


def _pattern(value: Any) -> bool:
    return _printable(value, MOST_CHARACTERS)


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_ENTRIES and all(map(_name, value))


def _wholes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_ENTRIES
        and all(_whole(entry, most=2**31 - 1) for entry in value)
    )


def _modules(value: Any) -> bool:
    return _names(value) or _pattern(value)


def _object(value: Any, keys: Callable[[Any], bool], values: Callable[[Any], bool]) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MOST_ENTRIES
        and all(map(keys, value))
        and all(map(values, value.values()))
    )


def _layer_ranges(value: Any) -> bool:
    # The length comes first, as each pair stands for a layer: 100,000 of them took a second.
    if not isinstance(value, list) or len(value) > _MOST_LAYERS:
        return False
    if not all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(_whole(n, most=_MOST_LAYERS) for n in pair)
        for pair in value
    ):
        return False
    return all(a < b for a, b in value) and sum(b - a for a, b in value) <= _MOST_LAYERS


def _fields(**tests: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value is an object whose fields of these names pass; PEFT ignores others."""

    def test(value: Any) -> bool:
        return isinstance(value, dict) and all(
            test(value[key]) for key, test in tests.items() if key in value
        )

    return test


def _one_of(*words: Any) -> _Rule:
    def accepts(value: Any) -> bool:
        return any(type(value) is type(word) and value == word for word in words)

    return _Rule(accepts, "one of " + ", ".join(map(repr, words)))


def _start(value: Any) -> bool:
    return value is None or isinstance(value, bool) or (_text(value, 100) and value.isprintable())


_FLAG = _Rule(lambda v: v is None or isinstance(v, bool), "true, false or null")
_COUNT = _Rule(lambda v: _whole(v, 1), f"a whole number from 1 to {_MOST_WHOLE:,}")
_SHARE = _Rule(lambda v: _number(v, 0, 1), "a number from 0 to 1")
_TEXTS = _Rule(_text, f"a text of at most {_TEXT:,} characters")
_MODULES = _Rule(
    _modules,
    f"a pattern of at most {MOST_CHARACTERS:,} characters, or a list of at most {MOST_ENTRIES:,} "
    "names",
)
_NAMES = _Rule(_names, f"a list of at most {MOST_ENTRIES:,} names of 1 to {_NAME:,} characters")
_OBJECT = _Rule(lambda v: isinstance(v, dict), "an object")
_RANKS = _Rule(
    lambda v: _object(v, _pattern, lambda n: _whole(n, 1)),
    f"an object of at most {MOST_ENTRIES:,} patterns, each with a whole number from 1 to "
    f"{_MOST_WHOLE:,}",
)
_ALPHAS = _Rule(
    lambda v: _object(v, _pattern, _number),
    f"an object of at most {MOST_ENTRIES:,} patterns, each with a finite number",
)


def _or_null(rule: _Rule) -> _Rule:
    return _Rule(lambda v: v is None or rule.accepts(v), rule.expected + ", or null")


_TASKS = (
    *("SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"),
    None,
)

_RULES: dict[str, _Rule] = {
    # All kinds.
    "task_type": _one_of(*_TASKS),
    "auto_mapping": _or_null(
        _Rule(lambda v: _object(v, _text, lambda e: e is None or _text(e)), "an object of texts")
    ),
    "peft_version": _or_null(_TEXTS),
    "base_model_name_or_path": _or_null(_TEXTS),
    "revision": _or_null(_TEXTS),
    "inference_mode": _FLAG,
    "modules_to_save": _or_null(_NAMES),
    # LoRA and IA3.
    "target_modules": _or_null(_MODULES),
    "exclude_modules": _or_null(_MODULES),
    "feedforward_modules": _or_null(_MODULES),
    "fan_in_fan_out": _FLAG,
    "init_ia3_weights": _FLAG,
    # LoRA.
    "r": _COUNT,
    "lora_alpha": _Rule(_number, "a finite number"),
    "lora_dropout": _SHARE,
    "bias": _one_of("none", "all", "lora_only"),
    "use_rslora": _FLAG,
    "use_dora": _FLAG,
    "use_qalora": _FLAG,
    "lora_bias": _FLAG,
    "ensure_weight_tying": _FLAG,
    "init_lora_weights": _Rule(_start, "true, false or the name of a way to start"),
    "layers_to_transform": _or_null(
        _Rule(
            lambda v: _whole(v) or _wholes(v),
            f"the number of a layer, or a list of at most {MOST_ENTRIES:,}",
        )
    ),
    "layers_pattern": _or_null(
        _Rule(lambda v: v in ("", []) or _modules(v), "a pattern, or a list of patterns")
    ),
    "rank_pattern": _RANKS,
    "alpha_pattern": _ALPHAS,
    "megatron_config": _Rule(
        lambda v: v is None, "null: PEFT would import a module that the file names"
    ),
    "megatron_core": _or_null(_TEXTS),
    "trainable_token_indices": _or_null(
        _Rule(
            lambda v: _wholes(v) or _object(v, _name, _wholes),
            f"a list of at most {MOST_ENTRIES:,} tokens, or an object of such lists",
        )
    ),
    "loftq_config": _or_null(_OBJECT),
    "eva_config": _or_null(_OBJECT),
    "corda_config": _or_null(_OBJECT),
    "lora_ga_config": _or_null(_OBJECT),
    "velora_config": _or_null(
        _Rule(
            _fields(
                num_groups=lambda v: _whole(v, 1),
                scale=lambda v: _number(v, 1e-30),
                init_type=_one_of("batch_average", "batch_average_once", "random").accepts,
            ),
            "an object with num_groups and scale above 0, and an init_type of PEFT",
        )
    ),
    "arrow_config": _or_null(
        _Rule(
            _fields(
                top_k=lambda v: _whole(v, 1),
                router_temperature=lambda v: _number(v, 1e-30),
                use_gks=_FLAG.accepts,
                rng_seed=lambda v: v is None or _whole(v, most=2**63 - 1),
            ),
            "an object with top_k and router_temperature above 0",
        )
    ),
    "alora_invocation_tokens": _or_null(
        _Rule(_wholes, f"a list of at most {MOST_ENTRIES:,} tokens")
    ),
    "qalora_group_size": _COUNT,
    "layer_replication": _or_null(
        _Rule(
            _layer_ranges,
            f"a list of pairs [start, end], start below end, of at most {_MOST_LAYERS:,} layers "
            "together",
        )
    ),
    "target_parameters": _or_null(_NAMES),
    "kasa_config": _or_null(_OBJECT),
    "monteclora_config": _or_null(_OBJECT),
    "use_bdlora": _or_null(_Rule(lambda v: isinstance(v, dict | bool), "an object")),
    # Prompts.
    "num_virtual_tokens": _COUNT,
    "token_dim": _or_null(_COUNT),
    "num_transformer_submodules": _or_null(_COUNT),
    "num_attention_heads": _or_null(_COUNT),
    "num_layers": _or_null(_COUNT),
    "encoder_hidden_size": _or_null(_COUNT),
    "encoder_num_layers": _COUNT,
    "encoder_dropout": _SHARE,
    "prefix_projection": _FLAG,
    "encoder_reparameterization_type": _one_of("MLP", "LSTM"),
    "prompt_tuning_init": _one_of("RANDOM", "TEXT", "SAMPLE_VOCAB"),
    "prompt_tuning_init_text": _or_null(
        _Rule(lambda v: _text(v, 1 << 20), "a text of at most 1,048,576 characters")
    ),
    "tokenizer_name_or_path": _or_null(_TEXTS),
    "tokenizer_kwargs": _or_null(_OBJECT),
    "init_weights": _one_of("zero", None),
}
"""Every field of PEFT's configurations of LoRA, (IA)^3 and prompts, but peft_type, which `kind_of`
reads, and runtime_config, which PEFT takes from no file."""


def check_fields(fields: Mapping[str, Any], where: object) -> None:
    """Check every field that PEFT or an expert may read.

    Args:
        fields: adapter_config.json, parsed.
        where: Its path, for messages.

    Raises:
        FormatError: If a field has another type, a value out of its range, or a pattern that is
            none or that would take too long; the message names it.

    Example:
        >>> check_fields({"r": 8, "target_modules": ["q", "v"]}, "adapter_config.json")
        >>> check_fields({"r": 2**40}, "adapter_config.json")
        Traceback (most recent call last):
        ...
        metro_fast._core.FormatError: adapter_config.json: r is 1099511627776, expected a whole \
number from 1 to 1,048,576
    """
    for field, value in fields.items():
        rule = _RULES.get(field)
        if rule is not None and not rule.accepts(value):
            raise FormatError(f"{where}: {field} is {brief(value)}, expected {rule.expected}")
    try:
        for field in ("target_modules", "exclude_modules", "feedforward_modules"):
            if isinstance(fields.get(field), str):
                Patterns(field, [fields[field]])
        for field in ("rank_pattern", "alpha_pattern", "layers_pattern", "modules_to_save"):
            keys = fields.get(field) or ()
            Patterns(field, [keys] if isinstance(keys, str) else keys)
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from None


def brief(value: Any) -> str:
    """A value of the file, as a message may show it, without writing down all of a large one."""
    if isinstance(value, list | dict) and len(value) > 20:
        kind = "a list" if isinstance(value, list) else "an object"
        return f"{kind} of {len(value):,} entries"
    return shown(repr(value[:500] if isinstance(value, str) else value))

"""The section `training` of a run: any field of `MetroTrainingArguments`."""

import functools
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from transformers import TrainingArguments

from metro_fast._ranges import check_above_zero, check_at_least, check_not_negative, check_seed
from metro_fast.errors import MetroFastError
from metro_fast.metro.settings import as_mapping, convert, unknown
from metro_fast.metro.training_arguments import MetroTrainingArguments

DEFAULTS: Mapping[str, Any] = {
    "max_steps": 10_000,
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 1,
    "learning_rate": 4e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 1000,
    "optim": "adamw_torch",
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "embedding_multiplier": 1.0,
    "relative_bias_multiplier": 1.0,
    "bf16": False,
    "seed": 0,
    "logging_steps": 50,
    "save_steps": 1000,
    "save_total_limit": 2,
    # Also where nothing else is saved, so that Ctrl-C can save.
    "save_strategy": "steps",
}
"""Our defaults; every other field has that of `MetroTrainingArguments`."""

ELSEWHERE: Mapping[str, str] = {
    "output_dir": "is set by the run: give output",
    "resume_from_checkpoint": "is set by the run: give resume",
    "dataloader_num_workers": "is a setting of the data: give data.num_workers",
    "mlm_weight": "is a setting of the objective: give objective.mlm_weight",
    "lm_weight": "is a setting of the objective: give objective.lm_weight",
    "rtd_weight": "is a setting of the objective: give objective.rtd_weight",
    "label_smoothing_factor": "is a setting of the objective: give objective.label_smoothing",
    "steps": "is called training.max_steps",
    "batch_size": "is called training.per_device_train_batch_size",
    "accumulation_steps": "is called training.gradient_accumulation_steps",
    "evaluation_steps": "is called training.eval_steps",
}
"""Fields that other settings stand for, and names that transformers does not use."""

# They change what is reported, kept and prepared, but not what is learned. A longer run has another
# schedule from the resumed step on, which is what its user asks for.
FREE = frozenset(
    f"training.{name}"
    for name in (
        *("max_steps", "num_train_epochs", "eval_steps", "eval_strategy", "eval_delay"),
        *("logging_steps", "logging_strategy", "logging_first_step", "report_to", "run_name"),
        *("log_level", "log_level_replica", "disable_tqdm", "project", "trackio_space_id"),
        *("save_steps", "save_strategy", "save_total_limit", "per_device_eval_batch_size"),
        *("push_to_hub", "hub_model_id", "hub_token", "hub_strategy", "hub_private_repo"),
        *("hub_always_push", "hub_revision", "dataloader_pin_memory"),
        *("dataloader_persistent_workers", "dataloader_prefetch_factor"),
    )
)
"""Settings that a resumed run may change."""


@functools.cache
def field_types() -> Mapping[str, Any]:
    """The fields of `MetroTrainingArguments` that a run may set, and their types."""
    hints = get_type_hints(MetroTrainingArguments)
    stock = get_type_hints(TrainingArguments)
    hints |= {name: stock[name] for name, hint in hints.items() if hint is Any and name in stock}
    names = (field.name for field in fields(MetroTrainingArguments) if field.init)
    return {name: hints[name] for name in names if name not in ELSEWHERE}


def read_training(given: Any) -> dict[str, Any]:
    """Check the fields that were given, and add our defaults.

    Args:
        given: A mapping of fields to values; texts are converted.

    Returns:
        Values by field; those that are not in it have the default of `MetroTrainingArguments`.

    Raises:
        MetroFastError: If a field is unknown, out of range, or set elsewhere.
        TypeError: If a value has the wrong type.

    Example:
        >>> read_training({"max-steps": 5, "optim": "adafactor"})["max_steps"]
        5
        >>> read_training({"max_step": 5})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: training.max_step is not a setting: did you ...
    """
    hints = field_types()
    values = {}
    for name, value in as_mapping(given, "training").items():
        if name not in hints:
            raise unknown(
                f"training.{name}", [f"training.{each}" for each in hints], ELSEWHERE.get(name)
            )
        number = convert(value, hints[name], f"training.{name}")
        # Intervals are floats in transformers, since below 1 they are shares of the run.
        values[name] = value if type(value) is int and number == value else number
    values = {**_defaults(values), **values}
    _check(values)
    return values


def _defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Our defaults beside the fields that were given."""
    defaults = dict(DEFAULTS)
    if "num_train_epochs" in given:
        if given.get("max_steps", -1) != -1:
            raise MetroFastError(
                "training.max_steps and training.num_train_epochs are both given: keep one"
            )
        defaults["max_steps"] = -1
    batch = given.get("per_device_train_batch_size", DEFAULTS["per_device_train_batch_size"])
    defaults["per_device_eval_batch_size"] = batch
    if given.get("eval_steps") is not None:
        defaults["eval_strategy"] = "steps"
    return defaults


def _check(values: Mapping[str, Any]) -> None:
    """Check what transformers would find late, or not at all."""
    if values["max_steps"] != -1:
        check_at_least(1, max_steps=values["max_steps"])
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        check_at_least(1, **{name: values[name]})
    if values.get("eval_strategy") == "steps" and values.get("eval_steps") is None:
        raise MetroFastError("training.eval_strategy is 'steps': set training.eval_steps as well")
    for name in ("logging_steps", "save_steps", "eval_steps"):
        if values.get(name) is not None:
            check_above_zero(**{name: values[name]})
    check_above_zero(
        learning_rate=values["learning_rate"],
        embedding_multiplier=values["embedding_multiplier"],
        relative_bias_multiplier=values["relative_bias_multiplier"],
    )
    check_not_negative(
        warmup_steps=values["warmup_steps"],
        weight_decay=values["weight_decay"],
        max_grad_norm=values["max_grad_norm"],
    )
    check_seed(32, seed=values["seed"])


def training_arguments(
    values: Mapping[str, Any], checkpoints: Path, *, num_workers: int
) -> MetroTrainingArguments:
    """The arguments of the trainer.

    Args:
        values: The result of `read_training`.
        checkpoints: The trainer's output folder.
        num_workers: Processes that make batches.

    Raises:
        MetroFastError: If transformers refuses a value, or fields do not fit together.
    """
    own: dict[str, Any] = {
        "output_dir": str(checkpoints),
        "dataloader_num_workers": num_workers,
        "dataloader_persistent_workers": num_workers > 0,
    }
    try:
        return MetroTrainingArguments(**{**own, **values})
    except MetroFastError:
        raise
    except ValueError as error:
        raise MetroFastError(f"training is refused by transformers: {error}") from error

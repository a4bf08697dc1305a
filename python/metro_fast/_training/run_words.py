"""The words of a run: its first line, the line of each log, and the table at its end."""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import nn

SHOWN = (
    "token_accuracy",
    "aux_accuracy",
    "lm_accuracy",
    "rtd_auc",
    "rtd_recall",
    "replace_ratio",
)
"""The figures of a line; the others are in the log history."""


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> duration(3725.2), duration(90_000)
        ('1:02:05', '1 day, 1:00:00')
    """
    return str(timedelta(seconds=round(seconds)))


def loss_names(line: Mapping[str, Any]) -> list[str]:
    """The losses of a log line: the total, and its parts if there are several.

    Example:
        >>> loss_names({"loss": 3.0, "mlm_loss": 2.0, "grad_norm": 1.0})
        ['loss', 'mlm_loss']
    """
    return [name for name in line if name == "loss" or name.endswith("_loss")]


def loss_text(line: Mapping[str, Any], name: str) -> str:
    """A loss in nats and bits per token; a weighted total of several losses has no bits.

    Example:
        >>> loss_text({"loss": 0.6932}, "loss"), loss_text({"loss": 2, "mlm_loss": 1}, "loss")
        ('0.6932/1.000', '2.000')
    """
    nats = float(line[name])
    total = name == "loss" and len(loss_names(line)) > 1
    return _four(nats) if total else f"{_four(nats)}/{_four(nats / math.log(2))}"


def _four(value: float) -> str:
    """Four digits, without an exponent.

    Example:
        >>> [_four(v) for v in (123.456, 0.0684, 12.34)]
        ['123.5', '0.06840', '12.34']
    """
    if not math.isfinite(value) or value == 0:
        return f"{value}"
    digits = 3 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(digits, 0), 8)}f}"


def line_parts(line: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a log line, in the order in which they are shown.

    Args:
        line: Figures by name; those of an evaluation without their prefix.
    """
    parts = [
        ("loss" if name == "loss" else name.removesuffix("_loss"), loss_text(line, name))
        for name in loss_names(line)
    ]
    parts += [(name, f"{line[name]:.3f}") for name in SHOWN if name in line]
    for name, label, form in (
        ("learning_rate", "lr", "{:.2e}"),
        ("grad_norm", "grad_norm", "{:.3g}"),
        ("tokens_per_second", "tokens/s", "{:,.0f}"),
        ("model_flops_share", "of peak", "{:.2%}"),
    ):
        if name in line:
            parts.append((label, form.format(line[name])))
    return parts


def evaluation_of(logs: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The prefix and figures of an evaluation's line, or None for another line.

    Example:
        >>> evaluation_of({"eval_loss": 2.0, "eval_runtime": 1.0, "epoch": 1})
        ('eval', {'loss': 2.0, 'runtime': 1.0})
    """
    prefixes = [name.removesuffix("_loss") for name in logs if name.endswith("_loss")]
    if "loss" in logs or "train_loss" in logs or not prefixes:
        return None
    prefix = min(prefixes, key=len)  # "eval_mlm_loss" is one of its parts
    figures = {
        name.removeprefix(f"{prefix}_"): value
        for name, value in logs.items()
        if name.startswith(f"{prefix}_")
    }
    return prefix, figures


def parameters_text(model: nn.Module) -> str:
    """The kind of a model and its number of weights, and that of its main model if it has one."""
    total = sum(weight.numel() for weight in model.parameters())
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    text = f"{type(model).__name__}, {total:,} parameters"
    main = getattr(model, "main", None)
    if isinstance(main, nn.Module):
        text += f", {sum(weight.numel() for weight in main.parameters()):,} of them in main"
    return text if trained == total else f"{text}, {trained:,} trained"


def data_text(dataset: Any) -> str:
    """The number of training rows, and the folder of their corpus if they have one.

    Args:
        dataset: The rows, or a selection that holds those it selects from as `dataset`.

    Example:
        >>> data_text([1, 2, 3])
        '3 rows'
    """
    length = getattr(dataset, "__len__", None)
    text = "a stream of rows" if length is None else f"{length():,} rows"
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    path, tokens = getattr(dataset, "path", None), getattr(dataset, "num_tokens", None)
    if path is None:
        return text
    return f"{text} of {path}" if tokens is None else f"{text} of {path} ({tokens:,} tokens)"


def device_text(args: Any, model: nn.Module) -> str:
    """Device, ranks and dtype of a training."""
    device = args.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    if device.type == "cpu":
        threads = torch.get_num_threads()
        name += f" with {threads} thread{'s' if threads > 1 else ''}"
    ranks = f"{args.world_size} x " if args.world_size > 1 else ""
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return f"{ranks}{name}, {dtype}{' with bf16 autocast' if args.bf16 else ''}"


def last_rows(
    first: Mapping[str, Any], last: Mapping[str, Any], evaluation: Mapping[str, Any] | None
) -> tuple[list[str], list[Sequence[str]]]:
    """Head and rows of the table at the end of a run.

    Args:
        first: The first log line.
        last: The last one.
        evaluation: Figures of the last evaluation with its `step`, or None.
    """
    columns = [("first", first), ("last", last)]
    if evaluation is not None:
        columns.append(("evaluation", evaluation))
    head = ["", *(f"{name}, step {line['step']}" for name, line in columns)]
    texts = [dict(line_parts(line)) for _, line in columns]
    names = list(dict.fromkeys(name for text in texts for name in text))
    return head, [[name, *(text.get(name, "") for text in texts)] for name in names]

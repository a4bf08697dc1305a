"""The training arguments that would have no effect here, or a wrong one, and are refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainingArguments

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError


@dataclass(frozen=True)
class Refusal:
    """A field of the training arguments that is refused for some of its values.

    Attributes:
        refuses: Whether a value is refused.
        reason: Why, and what to do; it follows the name and the value.
    """

    refuses: Callable[[Any], bool]
    reason: str


def _given(value: Any) -> bool:
    return value not in (None, {}, "")


REFUSALS: Mapping[str, Refusal] = {
    "fp16": Refusal(bool, "makes T5 overflow and gives NaN: use bf16=True, or fp32"),
    "bf16_full_eval": Refusal(
        bool,
        "rounds the weights themselves, so that a training after an evaluation, and every saved "
        "file, would have lost digits: use bf16=True, with which evaluations compute in bf16 too",
    ),
    "fp16_full_eval": Refusal(
        bool, "rounds the weights themselves, and T5 overflows in fp16: use bf16=True, or fp32"
    ),
    "label_smoothing_factor": Refusal(
        bool, "has no effect, since the summed losses have no label smoothing: set it to 0"
    ),
    "use_liger_kernel": Refusal(
        bool,
        "has no effect, since Liger has no kernels for these models: leave it out, or use "
        "torch_compile=True",
    ),
    "liger_kernel_config": Refusal(_given, "belongs to use_liger_kernel: leave it out"),
    "neftune_noise_alpha": Refusal(
        lambda value: value is not None,
        "has no effect, since encoder and decoder look tokens up in embeddings of their own, not "
        "in those that would get the noise: leave it out, or raise the dropout of the model",
    ),
    "auto_find_batch_size": Refusal(
        bool,
        "restarts with other batches, and so with another run: set per_device_train_batch_size "
        "and gradient_accumulation_steps",
    ),
    "logging_nan_inf_filter": Refusal(
        bool, "has no effect, since a loss that is not finite stops the run: leave it out"
    ),
    "eval_do_concat_batches": Refusal(
        lambda value: not value,
        "has no effect, since predictions are one array of all rows and ranks: leave it out",
    ),
    "include_for_metrics": Refusal(
        bool,
        "has no effect, since compute_metrics gets predictions and label_ids alone: leave it empty",
    ),
    "batch_eval_metrics": Refusal(
        bool,
        "has no effect, since compute_metrics is called once, with all rows of all ranks: set it "
        "to False",
    ),
    "label_names": Refusal(
        lambda value: value not in (None, ["labels"]),
        "has no effect, since the labels of a batch are read from `labels`: leave it out, and let "
        "the collator use that name",
    ),
    "max_steps": Refusal(
        lambda value: value == 0,
        "would take one step nevertheless: leave it out to train for num_train_epochs, or do not "
        "call train()",
    ),
    "save_total_limit": Refusal(
        lambda value: value == 1,
        "deletes the old checkpoint before the new one is known to be whole, so a kill at that "
        "moment loses the run: use at least 2",
    ),
    "enable_jit_checkpoint": Refusal(
        bool,
        "saves in the middle of an update, whose gradients a resumed run would lack: leave it out; "
        "pretrain and finetune save on Ctrl-C and SIGTERM, after the step",
    ),
    "ignore_data_skip": Refusal(
        bool,
        "would train the first rows of a resumed epoch a second time, and its last ones not at "
        "all: leave it out",
    ),
    "parallelism_config": Refusal(
        _given,
        "would cut sequences or share batches among ranks, whose counts are taken per row: leave "
        "it out, and start one rank for each GPU",
    ),
    "deepspeed": Refusal(
        _given,
        "divides losses by its own counts, which the exact normalization does not know: leave it "
        "out, and start one rank for each GPU",
    ),
    "fsdp": Refusal(
        bool,
        "would split the weights before their groups of learning rates are made: leave it out, or "
        "shard the model in a loop of your own, by model.backbone.shard_groups(model)",
    ),
    "fsdp_config": Refusal(_given, "belongs to fsdp, which is not supported: leave it out"),
    "dataloader_in_order": Refusal(
        lambda value: not value,
        "makes the order of the batches depend on the speed of the workers, so that a resumed run "
        "would repeat some rows and leave out others: leave it out",
    ),
    "remove_unused_columns": Refusal(
        bool,
        "would remove columns that the collators read, such as sample_id: leave it out",
    ),
    "train_sampling_strategy": Refusal(
        lambda value: value not in ("random", "sequential", "group_by_length"),
        "makes batches that depend on the number of ranks: use 'random', 'sequential' or "
        "'group_by_length'",
    ),
}

LOADING: Mapping[str, str] = {
    "dispatch_batches": (
        "lets rank 0 collate for all ranks and cut the batches, which makes counts and positions "
        "wrong: leave it out, so that each rank reads its own rows"
    ),
    "split_batches": (
        "cuts each batch among the ranks: leave it out, and set per_device_train_batch_size to the "
        "rows of one rank"
    ),
}
"""Settings of `accelerator_config` that are refused if they are true, and why."""

WITHOUT_ARGUMENTS = ("adamw_torch", "adamw_torch_fused", "adafactor", "lomo", "adalomo")
"""The values of `optim` that do not read `optim_args`."""
WITH_TARGETS = ("galore", "apollo")
"""Beginnings of the values of `optim` that read `optim_target_modules`."""


_TIMEOUT = TrainingArguments.__dataclass_fields__["ddp_timeout"].default


def check_fields(args: Any) -> None:
    """Refuse fields of training arguments that were given, before transformers reads them.

    Raises:
        MetroFastError: If a value would have no effect, or a wrong one; the message names it.
    """
    for name, refusal in REFUSALS.items():
        value = getattr(args, name, None)
        if hasattr(args, name) and refusal.refuses(value):
            shown = (
                f"{name}={quoted(value)}" if isinstance(value, bool | int | float | str) else name
            )
            raise MetroFastError(f"{shown} {refusal.reason}")


def check_combinations(args: Any) -> None:
    """Refuse what only shows after transformers has read the arguments and the environment.

    Raises:
        MetroFastError: If a setting of `accelerator_config` is refused, or an argument of the
            optimizer would not be read.
    """
    for name, reason in LOADING.items():
        if getattr(args.accelerator_config, name):
            raise MetroFastError(f"accelerator_config has {name}=True, which {reason}")
    if args.mixed_precision == "fp16":
        raise MetroFastError(
            "ACCELERATE_MIXED_PRECISION is fp16, in which T5 overflows and gives NaN: launch with "
            "--mixed_precision bf16 or no"
        )
    if args.use_cpu and args.world_size > 1 and args.ddp_timeout != _TIMEOUT:
        raise MetroFastError(
            f"ddp_timeout is {args.ddp_timeout}, but transformers does not pass it on to ranks on "
            "the CPU: leave it out, or call torch.distributed.init_process_group with a timeout "
            "before the arguments are made"
        )
    optim = args.optim.value
    if args.optim_args and optim in WITHOUT_ARGUMENTS:
        raise MetroFastError(
            f"optim_args is {quoted(args.optim_args)}, but optim={optim} does not read it: set "
            "adam_beta1, adam_beta2, adam_epsilon and weight_decay"
        )
    if args.optim_target_modules is not None and not optim.startswith(WITH_TARGETS):
        raise MetroFastError(
            f"optim_target_modules is {quoted(args.optim_target_modules)}, but optim={optim} "
            "trains every weight that requires a gradient: leave it out, or freeze the others"
        )


def check_launcher(trainer: Any) -> None:
    """Refuse what `accelerate launch` asks for through the environment.

    Raises:
        MetroFastError: If weights would be sharded by DeepSpeed or FSDP.
    """
    for name in ("deepspeed", "fsdp"):
        if getattr(trainer, f"is_{name}_enabled"):
            raise MetroFastError(f"{name}, chosen by the launcher, {REFUSALS[name].reason}")

"""Training arguments with defaults that suit summed losses and our corpora."""

import os
import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from metro_fast._ranges import check_seed
from metro_fast._training.refusals import check_combinations, check_fields
from metro_fast.errors import MetroFastError

RMS_SCALED = ("adamw_torch", "adamw_torch_fused", "adafactor")
"""The values of `optim` that know `rms_scaled` and the multipliers."""


@dataclass
class SummedLossArguments(TrainingArguments):  # type: ignore[misc]  # transformers is untyped
    """`transformers.TrainingArguments` with other defaults, and with scaled learning rates.

    Batches carry more than the model's columns (`remove_unused_columns=False`), each rank reads
    its own (`dispatch_batches=False`), every parameter takes part in every forward
    (`ddp_find_unused_parameters=False`), nothing is reported to a service by default, and
    progress is a live table on a terminal, plain lines elsewhere.

    Attributes:
        embedding_multiplier: Rate of the token embeddings over `learning_rate`.
        relative_bias_multiplier: Rate of the relative attention biases over `learning_rate`.
        rms_scaled: Multiply the rate of each tensor by its root mean square, at least 1e-3. With
            AdamW this is nanoT5's `AdamWScale`, with `optim="adafactor"` it is T5's own optimizer
            (transformers' Trainer sets `scale_parameter=False`). Rates are then relative, and
            larger: nanoT5 uses 0.02, T5 0.01.
        split_stream: Give each rank its own rows of a stream (`IterableDataset`); False if the
            stream is already split.
        sixteen_bit_weights: Train weights that have 16 bits as they are. By default they become
            fp32, since in bf16 most of them would not move.
    """

    embedding_multiplier: float = field(
        default=1.0, metadata={"help": "Rate of the token embeddings over learning_rate."}
    )
    relative_bias_multiplier: float = field(
        default=1.0, metadata={"help": "Rate of the relative attention biases over learning_rate."}
    )
    rms_scaled: bool = field(
        default=False, metadata={"help": "Scale each tensor's rate by its root mean square."}
    )
    split_stream: bool = field(
        default=True,
        metadata={"help": "Split a stream over the ranks, unless it is split."},
    )
    sixteen_bit_weights: bool = field(
        default=False, metadata={"help": "Train weights of 16 bits as they are, not as fp32."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep every column."})
    # The stock check waits for the device at every micro-step; `FiniteGuard` does so once a step.
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "A loss that is not finite stops the run."}
    )
    report_to: Any = field(default="none", metadata={"help": "Services to report to."})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Every parameter takes part in every forward."}
    )

    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin memory where it helps."}
    )
    # Without a device and without this, accelerate would not join the ranks of a torchrun.
    use_cpu: bool = field(
        default_factory=lambda: not torch.accelerator.is_available(),
        metadata={"help": "Train on the CPU; by default where there is no accelerator."},
    )
    accelerator_config: Any = field(
        default_factory=dict, metadata={"help": "That of transformers, with dispatch_batches off."}
    )
    disable_tqdm: bool | None = field(
        default=None,
        metadata={"help": "Write plain lines; by default unless stderr is a terminal."},
    )

    def __post_init__(self) -> None:
        if isinstance(self.accelerator_config, dict):
            self.accelerator_config = {"dispatch_batches": False, **self.accelerator_config}
        if self.disable_tqdm is None:
            self.disable_tqdm = not sys.stderr.isatty()
        check_fields(self)
        super().__post_init__()
        check_combinations(self)
        if int(os.environ.get("WORLD_SIZE", "1")) != self.world_size:
            raise MetroFastError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the trainer joined "
                f"{self.world_size} ranks, so that each would train alone: use the launcher's "
                "backend and device, or unset WORLD_SIZE"
            )
        check_seed(32, seed=self.seed)  # numpy's global generator takes no more
        if self.data_seed is not None:
            check_seed(63, data_seed=self.data_seed)


def check_one_process_per_gpu(args: SummedLossArguments) -> None:
    """Refuse to cut the batches of one process among several GPUs.

    Raises:
        MetroFastError: If one process would drive several GPUs.
    """
    if args.n_gpu > 1:
        raise MetroFastError(
            f"{args.n_gpu} GPUs in one process (DataParallel) would split each batch and its "
            f"counts: start one process per GPU with torchrun --nproc-per-node={args.n_gpu} ..., "
            "or set CUDA_VISIBLE_DEVICES to one GPU"
        )

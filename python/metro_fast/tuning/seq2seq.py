"""Finetuning of a seq2seq model on (input, target) texts."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import set_seed

from metro_fast._training import Seq2SeqObjective, SummedLossArguments, SummedLossTrainer
from metro_fast._training.run import (
    CHECKPOINTS,
    claim_folder,
    refuse_other_run,
    save_whole,
    train_in_folder,
)
from metro_fast.errors import MetroFastError
from metro_fast.tuning.lora import add_lora
from metro_fast.tuning.options import TuningOptions
from metro_fast.tuning.pairs import PairCollator, PairRows

Pairs = Sequence[tuple[str, str]]


def finetune_model(
    model: Any,
    tokenizer: Any,
    pairs: Pairs,
    options: TuningOptions | None = None,
    *,
    output: str | Path | None = None,
    evaluation_pairs: Pairs | None = None,
    resume: bool = False,
) -> Any:
    """Finetune an encoder-decoder, wholly or by a LoRA adapter.

    The loss is the mean over all label tokens of an optimizer step, however the step is cut into
    forward passes and ranks (transformers' own T5 loss is not). Batches hold inputs of like
    length. With the same seed, thread count and machine the result is bit-equal, also after a
    resume.

    Args:
        model: A transformers encoder-decoder, or a `PeftModel` over one, which is trained as it
            is. It is trained in place.
        tokenizer: Its tokenizer.
        pairs: (input, target) texts, for instance from `metro_fast.prompts.render_examples`.
        options: Method and schedule.
        output: Folder for the result, checkpoints and `metrics.jsonl`; None keeps nothing.
        evaluation_pairs: Held-out pairs; their loss and accuracy are logged as `eval_*`.
        resume: Continue the run that `output` holds.

    Returns:
        The model in evaluation mode; with method "lora" a `PeftModel`, whose folder at `output`
        is a plain PEFT adapter.

    Raises:
        MetroFastError: If pairs, tokenizer, model or options do not fit.
        OSError: If `output` cannot be written.
        KeyboardInterrupt: If stopped by Ctrl-C or SIGTERM; the checkpoint is then already saved.

    Example:
        >>> from transformers import AutoModelForSeq2SeqLM, AutoTokenizer  # doctest: +SKIP
        >>> pairs = [("Is 2 even?", "yes"), ("Is 3 even?", "no")]  # doctest: +SKIP
        >>> tuned = finetune_model(model, tokenizer, pairs)  # doctest: +SKIP
    """
    options = options or TuningOptions()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not hasattr(base, "prepare_decoder_input_ids_from_labels"):
        raise MetroFastError(f"model is {type(base).__name__}, expected an encoder-decoder")
    limits = {
        "max_input_length": options.max_input_length,
        "max_target_length": options.max_target_length,
        "vocab_size": base.config.vocab_size,
    }
    rows = PairRows(tokenizer, pairs, **limits)
    held_out = PairRows(tokenizer, evaluation_pairs, **limits) if evaluation_pairs else None
    if resume and output is None:
        raise MetroFastError("resume=True needs the output folder of the run")
    if output is not None:  # before the model is touched
        refuse_other_run(Path(output), resume=resume)
    set_seed(options.seed)
    if options.method == "lora" and model is base:
        model = add_lora(model, options)
    with _folder(output) as folder:
        evaluate = held_out is not None
        arguments = _arguments(folder, options, keep=output is not None, evaluate=evaluate)
        resume = claim_folder(folder, resume=resume)
        trainer = SummedLossTrainer(
            Seq2SeqObjective(base.config.vocab_size, base.prepare_decoder_input_ids_from_labels),
            arguments,
            model=model,
            train_dataset=rows,
            eval_dataset=held_out,
            data_collator=PairCollator(base.config.pad_token_id),
        )
        train_in_folder(trainer, folder, resume=resume, evaluate=evaluate)
        model.eval()
        if output is not None and trainer.is_world_process_zero():
            save_whole(folder, lambda temporary: _save(model, tokenizer, temporary))
    return model


@contextlib.contextmanager
def _folder(output: str | Path | None) -> Iterator[Path]:
    if output is not None:
        yield Path(output)
        return
    with tempfile.TemporaryDirectory(prefix="metro_fast-") as name:
        yield Path(name)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    name = getattr(model, "active_adapter", None)
    if not isinstance(name, str):
        model.save_pretrained(folder)
    else:
        model.save_pretrained(folder, selected_adapters=[name])
        if name != "default":  # PEFT gives every other name a folder of its own
            for path in list((folder / name).iterdir()):
                path.replace(folder / path.name)
            (folder / name).rmdir()
    tokenizer.save_pretrained(folder)


def _arguments(
    folder: Path, options: TuningOptions, *, keep: bool, evaluate: bool
) -> SummedLossArguments:
    return SummedLossArguments(
        output_dir=str(folder / CHECKPOINTS),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation_steps,
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup_steps,
        weight_decay=options.weight_decay,
        embedding_multiplier=options.embedding_multiplier,
        relative_bias_multiplier=options.relative_bias_multiplier,
        max_grad_norm=options.max_grad_norm,
        bf16=options.bf16,
        seed=options.seed,
        train_sampling_strategy="group_by_length",
        logging_steps=options.logging_steps,
        # "steps" also without save_steps, so that Ctrl-C leaves a checkpoint to resume from.
        save_strategy="steps" if keep else "no",
        save_steps=options.save_steps or options.steps,
        save_total_limit=2,
        eval_strategy="steps" if evaluate and options.evaluation_steps else "no",
        eval_steps=options.evaluation_steps or None,
    )

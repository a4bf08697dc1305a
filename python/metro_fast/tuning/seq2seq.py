"""Finetuning of a seq2seq model on (input, target) texts."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import set_seed

from metro_fast._training import Seq2SeqObjective, SummedLossArguments, SummedLossTrainer
from metro_fast._training.run_folder import RunFolder
from metro_fast.errors import MetroFastError
from metro_fast.tuning.lora import add_lora
from metro_fast.tuning.options import TuningOptions
from metro_fast.tuning.pairs import PairCollator, PairRows

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

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
) -> "PreTrainedModel | PeftModel":
    """Finetune an encoder-decoder: all of its weights, or a LoRA adapter.

    The loss is the mean over all label tokens of an optimizer step, however the step is cut into
    forward passes and ranks (transformers' own T5 loss is not). Batches hold inputs of similar
    length. With the same seed, thread count and machine the result is equal bit for bit, also
    after a resume.

    Args:
        model: A transformers encoder-decoder, or a `PeftModel` over one, which gets no further
            adapter. It is trained in place.
        tokenizer: Its tokenizer.
        pairs: (input, target) texts, for instance from `metro_fast.prompts.render_examples`.
        options: Method and schedule.
        output: Folder for the result, checkpoints and `metrics.jsonl`; None keeps nothing.
        evaluation_pairs: Held-out pairs; their loss and accuracy are logged as `eval_*`.
        resume: Continue the run in `output`.

    Returns:
        The model in evaluation mode; with method "lora" a `PeftModel`, whose folder at `output`
        is a plain PEFT adapter.

    Raises:
        MetroFastError: If pairs, tokenizer, model or options do not fit together.
        OSError: If `output` cannot be written.
        KeyboardInterrupt: If stopped by Ctrl-C or SIGTERM; the checkpoint is then already saved.

    Example:
        >>> from transformers import AutoModelForSeq2SeqLM, AutoTokenizer  # doctest: +SKIP
        >>> pairs = [("Is 2 even?", "yes"), ("Is 3 even?", "no")]  # doctest: +SKIP
        >>> tuned = finetune_model(model, tokenizer, pairs)  # doctest: +SKIP
    """
    if resume and output is None:
        raise MetroFastError("resume=True needs the output folder of the run")
    options = options or TuningOptions()
    base = _encoder_decoder(model)
    rows, held_out = _rows(tokenizer, pairs, evaluation_pairs, options, base.config.vocab_size)
    with _run_folder(output, resume=resume) as run:
        set_seed(options.seed)
        if options.method == "lora" and model is base:
            model = add_lora(model, options)
        arguments = _arguments(run, options, keep=output is not None, evaluate=held_out is not None)
        run.open()
        trainer = SummedLossTrainer(
            Seq2SeqObjective(base.config.vocab_size, base.prepare_decoder_input_ids_from_labels),
            arguments,
            model=model,
            train_dataset=rows,
            eval_dataset=held_out,
            data_collator=PairCollator(base.config.pad_token_id),
        )
        run.train(trainer, evaluate=held_out is not None)
        model.eval()
        if output is not None:
            run.save(lambda temporary: _save(model, tokenizer, temporary))
    return model


def _encoder_decoder(model: Any) -> Any:
    """The transformers model itself, without the adapter that may be on it."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not hasattr(base, "prepare_decoder_input_ids_from_labels"):
        raise MetroFastError(f"model is {type(base).__name__}, expected an encoder-decoder")
    return base


def _rows(
    tokenizer: Any,
    pairs: Pairs,
    evaluation_pairs: Pairs | None,
    options: TuningOptions,
    vocab_size: int,
) -> tuple[PairRows, PairRows | None]:
    limits = {
        "max_input_length": options.max_input_length,
        "max_target_length": options.max_target_length,
        "vocab_size": vocab_size,
    }
    rows = PairRows(tokenizer, pairs, **limits)
    held_out = PairRows(tokenizer, evaluation_pairs, **limits) if evaluation_pairs else None
    return rows, held_out


@contextlib.contextmanager
def _run_folder(output: str | Path | None, *, resume: bool) -> Iterator[RunFolder]:
    if output is not None:
        with RunFolder.owned(Path(output), resume=resume) as run:
            yield run
        return
    with tempfile.TemporaryDirectory(prefix="metro_fast-") as name:
        yield RunFolder(Path(name), resume=False)


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
    run: RunFolder, options: TuningOptions, *, keep: bool, evaluate: bool
) -> SummedLossArguments:
    more = {} if keep else {"save_strategy": "no"}
    return options.arguments(
        SummedLossArguments,
        run.checkpoints,
        evaluate=evaluate,
        train_sampling_strategy="group_by_length",
        **more,
    )

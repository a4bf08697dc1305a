"""Pretraining from files: a corpus and a tokenizer in, a model and its history out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import T5Config, T5ForConditionalGeneration, set_seed

from metro_fast._pretrained import explained, load_tokenizer
from metro_fast._training.resolved import record_settings
from metro_fast._training.run import (
    CHECKPOINTS,
    claim_folder,
    refuse_other_run,
    save_whole,
    train_in_folder,
)
from metro_fast.data import DataCollatorForMetro, DataCollatorForSpanCorruption, TokenCorpus
from metro_fast.errors import MetroFastError
from metro_fast.metro.configuration import MetroConfig
from metro_fast.metro.held_out import RowSelection
from metro_fast.metro.modeling import MetroForPretraining
from metro_fast.metro.pretrain_config import PretrainConfig
from metro_fast.metro.trainer import MetroTrainer
from metro_fast.metro.training_arguments import MetroTrainingArguments

FREE = frozenset({"output", "resume", "num_threads", "num_workers"})
CHECKED_ROWS = 64


def pretrain(config: PretrainConfig) -> Path:
    """Pretrain a model and save it.

    Everything is read and checked before the first step. The output folder gets
    `resolved_config.yaml`, `metrics.jsonl` (one line a log), `checkpoints/`, the METRO model (with
    the objective "metro"), and `main/`: a plain T5 with its tokenizer, ready for finetuning.

    Args:
        config: The settings.

    Returns:
        The output folder.

    Raises:
        MetroFastError: If settings, corpus and tokenizer do not fit.
        FormatError: If the corpus is damaged, or holds ids that the tokenizer does not have.
        OSError: If a file cannot be read or the output cannot be written.
        KeyboardInterrupt: If stopped by Ctrl-C or SIGTERM; the checkpoint is then already saved,
            and `resume=True` continues to the very same result.

    Example:
        >>> from metro_fast.data import prepare, train_tokenizer
        >>> text = "small models and fast kernels . " * 400
        >>> _ = Path("text.txt").write_text(text)
        >>> tokenizer = train_tokenizer([text], vocab_size=60, num_sentinels=8)
        >>> corpus = prepare("text.txt", "corpus", tokenizer, progress=False)
        >>> sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_heads": 2, "num_layers": 1}
        >>> depths = {"num_decoder_layers": 1, "auxiliary_num_layers": 1, "block_size": 16}
        >>> run = {"steps": 2, "batch_size": 4, "evaluation_rows": 4}
        >>> pretrain(PretrainConfig(corpus=corpus, output=Path("run"), **sizes, **depths, **run))
        PosixPath('run')
        >>> (Path("run") / "main" / "config.json").exists()
        True
    """
    refuse_other_run(config.output, resume=config.resume)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    tokenizer = _tokenizer(config)
    rows = _rows(config, tokenizer)
    set_seed(config.seed)
    with explained("a model of these settings"):
        model = _model(config, tokenizer)
    arguments = _arguments(config)
    resume = claim_folder(config.output, resume=config.resume)
    record_settings(config.output, config, resume=resume, free=FREE)
    trainer = MetroTrainer(
        model,
        arguments,
        train_dataset=rows.training,
        eval_dataset=rows.held_out,
        data_collator=rows.collator,
    )
    train_in_folder(trainer, config.output, resume=resume, evaluate=True)
    if trainer.is_world_process_zero():
        _save(model, tokenizer, config.output)
    return config.output


@dataclass(frozen=True)
class _Rows:
    training: RowSelection
    held_out: RowSelection
    collator: Any


def _tokenizer(config: PretrainConfig) -> Any:
    if not config.corpus.is_dir():
        raise FileNotFoundError(f"corpus folder {config.corpus} does not exist")
    folder = config.tokenizer or config.corpus / "tokenizer"
    if not folder.is_dir():
        raise FileNotFoundError(f"tokenizer folder {folder} does not exist: name it by `tokenizer`")
    tokenizer = load_tokenizer(folder)
    for name in ("pad_token_id", "eos_token_id"):
        if getattr(tokenizer, name) is None:
            raise MetroFastError(f"the tokenizer at {folder} has no {name}")
    return tokenizer


def _rows(config: PretrainConfig, tokenizer: Any) -> _Rows:
    """The two parts of the corpus; each has a collator of its own, since only one has epochs."""
    parts = []
    for held_out in (False, True):
        collator = _collator(config, tokenizer)
        if held_out:
            collator.set_epoch(0)  # the same masks in every evaluation
        corpus = TokenCorpus(
            config.corpus,
            block_size=config.block_size,
            collator=collator,
            vocab_size=len(tokenizer),
        )
        parts.append(RowSelection(corpus, config.evaluation_rows, held_out=held_out))
    size = len(parts[0].dataset)
    for index in range(0, size, max(1, size // CHECKED_ROWS)):
        parts[0].dataset[index]  # an id out of the vocabulary is met now, not after an hour
    return _Rows(parts[0], parts[1], parts[0].dataset.collator)


def _collator(config: PretrainConfig, tokenizer: Any) -> Any:
    if config.objective == "metro":
        return DataCollatorForMetro(
            tokenizer, mlm_probability=config.mask_probability, seed=config.seed
        )
    return DataCollatorForSpanCorruption(
        tokenizer,
        noise_density=config.noise_density,
        mean_noise_span_length=config.mean_span_length,
        seed=config.seed,
    )


def _model(config: PretrainConfig, tokenizer: Any) -> Any:
    main = T5Config(
        vocab_size=len(tokenizer),
        d_model=config.d_model,
        d_kv=config.d_kv,
        d_ff=config.d_ff,
        num_layers=config.num_layers,
        num_decoder_layers=config.num_decoder_layers,
        num_heads=config.num_heads,
        feed_forward_proj=config.feed_forward,
        dropout_rate=config.dropout,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    if config.objective == "span":
        return T5ForConditionalGeneration(main)
    return MetroForPretraining(
        MetroConfig(
            main=main,
            auxiliary_num_layers=config.auxiliary_num_layers,
            embedding_sharing=config.embedding_sharing,
            rtd_head=config.rtd_head,
            decoding_target=config.decoding_target,
            mlm_weight=config.mlm_weight,
            lm_weight=config.lm_weight,
            rtd_weight=config.rtd_weight,
            sampling_temperature=config.sampling_temperature,
            sampling_seed=config.seed,
        )
    )


def _arguments(config: PretrainConfig) -> MetroTrainingArguments:
    return MetroTrainingArguments(
        output_dir=str(config.output / CHECKPOINTS),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation_steps,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        embedding_multiplier=config.embedding_multiplier,
        relative_bias_multiplier=config.relative_bias_multiplier,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        seed=config.seed,
        dataloader_num_workers=config.num_workers,
        dataloader_persistent_workers=config.num_workers > 0,
        logging_steps=config.logging_steps,
        save_strategy="steps",  # also without save_steps, so that Ctrl-C can save
        save_steps=config.save_steps or config.steps,
        save_total_limit=2,
        eval_strategy="steps" if config.evaluation_steps else "no",
        eval_steps=config.evaluation_steps or None,
    )


def _save(model: Any, tokenizer: Any, output: Path) -> None:
    main = model
    if isinstance(model, MetroForPretraining):
        save_whole(output, model.save_pretrained)
        main = model.main

    def write(folder: Path) -> None:
        main.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    save_whole(output / "main", write)

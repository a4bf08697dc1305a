"""Pretraining from files: a corpus and a tokenizer become a model and its history."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

from metro_fast._pretrained import explained, load_tokenizer
from metro_fast._training.run_folder import RunFolder
from metro_fast.data import DataCollatorForMetro, DataCollatorForSpanCorruption, TokenCorpus
from metro_fast.errors import MetroFastError
from metro_fast.metro.configuration import MetroConfig
from metro_fast.metro.held_out import RowSelection
from metro_fast.metro.modeling import MetroForPretraining
from metro_fast.metro.options import OPTION_NAMES
from metro_fast.metro.pretrain_config import PretrainConfig
from metro_fast.metro.starting import never_drawn
from metro_fast.metro.trainer import MetroTrainer
from metro_fast.metro.training_arguments import MetroTrainingArguments

FREE = frozenset({"output", "resume", "num_threads", "num_workers"})
CHECKED_ROWS = 64


def pretrain(config: PretrainConfig) -> Path:
    """Pretrain a model and save it.

    Everything is read and checked before the first step. The output folder gets
    `resolved_config.yaml`, `metrics.jsonl` (one line per log), `checkpoints/`, the METRO model
    (with the objective "metro"), and `main/`: a plain T5 with its tokenizer, ready for finetuning.

    Args:
        config: The settings.

    Returns:
        The output folder.

    Raises:
        MetroFastError: If settings, corpus and tokenizer do not fit together.
        FormatError: If the corpus is damaged, or holds ids that the tokenizer does not have.
        OSError: If a file cannot be read or the output cannot be written.
        KeyboardInterrupt: If stopped by Ctrl-C or SIGTERM; the checkpoint is then already saved,
            and `resume=True` continues to exactly the same result.

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
    run = RunFolder(config.output, resume=config.resume)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    tokenizer = _tokenizer(config)
    rows = _rows(config, tokenizer)
    set_seed(config.seed)
    with explained("a model of these settings"):
        model = _model(config, tokenizer)
    arguments = config.arguments(
        MetroTrainingArguments,
        run.checkpoints,
        evaluate=True,
        dataloader_num_workers=config.num_workers,
        dataloader_persistent_workers=config.num_workers > 0,
    )
    run.open()
    run.record(config, free=FREE)
    trainer = MetroTrainer(
        model,
        arguments,
        train_dataset=rows.training,
        eval_dataset=rows.held_out,
        data_collator=rows.collator,
    )
    run.train(trainer, evaluate=True)
    _save(model, tokenizer, run)
    return config.output


@dataclass(frozen=True)
class _Rows:
    training: RowSelection
    held_out: RowSelection
    collator: Any


def _tokenizer(config: PretrainConfig) -> PreTrainedTokenizerBase:
    if not config.corpus.is_dir():
        raise FileNotFoundError(
            f"corpus folder {config.corpus} does not exist: make it with `metro-fast prepare`"
        )
    folder = config.tokenizer or config.corpus / "tokenizer"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"tokenizer folder {folder} does not exist: give the right one as `tokenizer`"
        )
    tokenizer = load_tokenizer(folder)
    for name in ("pad_token_id", "eos_token_id"):
        if getattr(tokenizer, name) is None:
            raise MetroFastError(f"the tokenizer at {folder} has no {name}: set one and save it")
    return tokenizer


def _rows(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> _Rows:
    """The two parts of the corpus, each with its own collator, since only one has epochs."""
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
        parts[0].dataset[index]  # finds an id outside the vocabulary now, not after an hour
    return _Rows(parts[0], parts[1], parts[0].dataset.collator)


def _collator(
    config: PretrainConfig, tokenizer: PreTrainedTokenizerBase
) -> DataCollatorForMetro | DataCollatorForSpanCorruption:
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


def _model(
    config: PretrainConfig, tokenizer: PreTrainedTokenizerBase
) -> MetroForPretraining | T5ForConditionalGeneration:
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
            auxiliary={"num_layers": config.auxiliary_num_layers},
            forbidden_token_ids=never_drawn(tokenizer, len(tokenizer)),
            **{name: getattr(config, name) for name in OPTION_NAMES},
            sampling_seed=config.seed,
        )
    )


def _save(
    model: MetroForPretraining | T5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    run: RunFolder,
) -> None:
    main = model
    if isinstance(model, MetroForPretraining):
        run.save(model.save_pretrained)
        main = model.main

    def write(folder: Path) -> None:
        main.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    run.save(write, under="main")

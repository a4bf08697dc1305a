"""Pretraining from files: a corpus and a tokenizer become a model and its history."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, set_seed
from transformers.utils.logging import disable_progress_bar

from metro_fast._pretrained import save_seq2seq
from metro_fast._training.optimizer import has_our_groups
from metro_fast._training.run_folder import RunFolder
from metro_fast.metro.modeling import MetroForPretraining
from metro_fast.metro.pretrain_config import FREE, PretrainConfig
from metro_fast.metro.pretraining_data import RunRows, read_rows, read_tokenizer
from metro_fast.metro.pretraining_model import make_model
from metro_fast.metro.strip import SentenceStrip
from metro_fast.metro.trainer import MetroTrainer
from metro_fast.metro.training_section import training_arguments


def pretrain(config: PretrainConfig) -> Path:
    """Pretrain a model and save it.

    Everything is read and checked before the first step: the tokenizer is compared with the one
    that made the corpus, a loaded model with the tokenizer, and rows from all over the corpus are
    corrupted once. The output folder gets `resolved_config.yaml`, `metrics.jsonl` (one line per
    log), `checkpoints/`, the METRO model and `strip.html` (with the objective "metro"), and
    `main/`: a plain encoder-decoder with its tokenizer, ready for finetuning.

    Args:
        config: The settings.

    Returns:
        The output folder.

    Raises:
        MetroFastError: If settings, corpus, tokenizer and model do not fit together, or the output
            holds a run of other settings.
        FormatError: If a file is damaged, or the corpus holds ids that the tokenizer does not have.
        OSError: If a file cannot be read or the output cannot be written.
        KeyboardInterrupt: If stopped by Ctrl-C or SIGTERM; the checkpoint is then already saved,
            and `resume=True` continues to exactly the same result.

    Example:
        >>> from metro_fast.data import prepare, train_tokenizer
        >>> text = "small models and fast kernels . " * 400
        >>> _ = Path("text.txt").write_text(text)
        >>> tokenizer = train_tokenizer([text], vocab_size=60, num_sentinels=8)
        >>> corpus = prepare("text.txt", "corpus", tokenizer, progress=False)
        >>> config = PretrainConfig(
        ...     output="run",
        ...     data={"corpus": corpus, "block_size": 16, "evaluation_rows": 4},
        ...     model={"d_model": 16, "d_kv": 8, "d_ff": 16, "num_heads": 2, "num_layers": 1},
        ...     auxiliary={"num_layers": 1},
        ...     training={"max_steps": 2, "per_device_train_batch_size": 4},
        ... )
        >>> pretrain(config)
        PosixPath('run')
        >>> (Path("run") / "main" / "config.json").exists()
        True
    """
    with RunFolder.owned(config.output, resume=config.resume) as run:
        _pretrain(config, run)
    return config.output


def _pretrain(config: PretrainConfig, run: RunFolder) -> None:
    if not sys.stderr.isatty():
        disable_progress_bar()  # that of loaded weights would fill a log file
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    tokenizer = read_tokenizer(config)
    rows = read_rows(config, tokenizer)
    set_seed(config.training["seed"])
    model = make_model(config, tokenizer)
    arguments = training_arguments(
        config.training, run.checkpoints, num_workers=config.data.num_workers
    )
    has_our_groups(arguments, own_optimizer=False)  # refuses settings that its optimizer has not
    steps = config.training["max_steps"]
    run.open()
    run.record(
        config.resolved(),
        free=FREE,
        steps=("training.max_steps", steps) if steps > 0 else None,
    )
    trainer = MetroTrainer(
        model,
        arguments,
        train_dataset=rows.training,
        eval_dataset=rows.evaluation,
        data_collator=rows.collator,
    )
    if isinstance(model, MetroForPretraining) and rows.evaluation is not None:
        trainer.add_callback(_strip(rows, tokenizer, run))
    run.train(trainer, evaluate=rows.evaluation is not None)
    _save(model, tokenizer, run)


def _strip(rows: RunRows, tokenizer: PreTrainedTokenizerBase, run: RunFolder) -> SentenceStrip:
    """The page that shows two held-out rows at each evaluation."""
    # A generator of its own: the loader draws a seed, which would change the training's draws.
    loader: DataLoader[Any] = DataLoader(
        rows.evaluation, batch_size=2, collate_fn=rows.collator, generator=torch.Generator()
    )
    page = run.path / "strip.html"
    return SentenceStrip(tokenizer, next(iter(loader)), every=None, show=False, html=page)


def _save(model: Any, tokenizer: PreTrainedTokenizerBase, run: RunFolder) -> None:
    main = model
    if isinstance(model, MetroForPretraining):
        run.save(model.save_pretrained)
        main = model.main

    def write(folder: Path) -> None:
        save_seq2seq(main, folder)
        tokenizer.save_pretrained(folder)

    run.save(write, under="main")

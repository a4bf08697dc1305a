"""The commands that write experts, corpora and pages, for `fault_table.py`."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from fault_checks import Case

FINISHED = "already"


def write_adapter(folder: Path, seed: int, **config: object) -> Path:
    """A LoRA of two modules with random weights, as PEFT writes it."""
    from metro_fast.experts.adapters.peft_folder import write_folder
    from metro_fast.experts.adapters.tensors import RawTensor

    rng = np.random.default_rng(seed)
    raw = {}
    for module in ("q", "v"):
        for factor, shape in (("A", (4, 32)), ("B", (32, 4))):
            name = f"base_model.model.layers.0.{module}.lora_{factor}.weight"
            raw[name] = RawTensor.of(rng.standard_normal(shape).astype(np.float32), name)
    fields = {"peft_type": "LORA", "base_model_name_or_path": "b", "r": 4, "lora_alpha": 8}
    fields |= {"target_modules": ["q", "v"], **config}
    write_folder(folder, raw, json.dumps(fields).encode())
    return folder


def with_readme(folder: Path) -> None:
    """An output folder that is there and holds a file of the user."""
    (folder / "out").mkdir()
    (folder / "out" / "README.md").write_text("mine")


def with_expert(source: Path, folder: Path) -> None:
    """An output folder with another expert in it, made by the command."""
    shutil.copytree(source, folder / "out")


def compressed(source: Path, target: Path) -> Path:
    from metro_fast.experts import compress

    compress(source, density=0.5).save(target)
    (target / "README.md").write_text("mine")
    return target


def cases(inputs: Path) -> Iterator[Case]:
    """Make the inputs, and return the commands."""
    one, two = (write_adapter(inputs / name, seed) for seed, name in enumerate(("one", "two")))
    other = write_adapter(inputs / "other", 7, lora_alpha=16)
    packed = [compressed(path, inputs / f"{path.name}-packed") for path in (one, two)]
    other_packed = compressed(other, inputs / "other-packed")
    first, second = map(str, packed)
    compress = ("expert", "compress", str(one), "out", "--quiet")
    beside = ("expert", "compress", str(other), "out", "--quiet")
    yield Case("compress", compress, done=FINISHED, other=beside)
    # In a folder that is there the weights come last: without them there is no expert yet.
    first_files = ("out/adapter_config.json", "out/resolved_config.yaml")
    yield Case(
        "compress, folder with files",
        compress,
        with_readme,
        done=FINISHED,
        growing=first_files,
        other=beside,
    )
    yield Case(
        "compress --replace, same configuration",
        (*compress, "--replace"),
        partial(with_expert, packed[0]),
        growing=first_files,
        other=(*beside, "--replace"),
    )
    yield Case(
        "compress --replace, other configuration",
        (*compress, "--replace"),
        partial(with_expert, other_packed),
    )
    yield Case(
        "compress, two sources",
        ("expert", "compress", str(one), str(two), "out", "--quiet"),
        done=FINISHED,
        growing=("out/one/*", "out/two/*"),
    )
    prune = ("expert", "compress", str(one), "out", "--quantize", "prune", "--quiet")
    yield Case("compress --quantize prune", prune, done="which is not replaced")
    yield Case("decompress", ("expert", "decompress", first, "out"), done=FINISHED)
    yield Case("decompress to a file", ("expert", "decompress", first, "out.npz"), done=FINISHED)
    merge = ("expert", "merge", first, second, "--out", "out")
    merged = ("expert", "merge", first, "--out", "out", "--method", "task_arithmetic")
    yield Case("merge", merge, done=FINISHED, other=merged)
    yield Case(
        "merge, folder with files",
        merge,
        with_readme,
        done=FINISHED,
        growing=first_files,
        other=merged,
    )
    yield Case("merge --density", (*merge, "--density", "0.3"), done=FINISHED)
    yield Case(
        "export",
        ("expert", "export", first, second, "--out", "out"),
        done=FINISHED,
        growing=("out/*",),
    )
    yield Case("inspect --html", ("expert", "inspect", first, "--html", "page.html"))
    yield Case(
        "similarity",
        ("expert", "similarity", first, second, "--html", "page.html", "--csv", "table.csv"),
        growing=("table.csv",),  # two files, each of them whole
    )
    plain = compressed(one, inputs / "card-packed")
    (plain / "README.md").unlink()
    card = ("expert", "card", "out", "--write")
    yield Case("card --write", card, partial(with_expert, plain), done=FINISHED)
    yield from _page_cases(inputs)
    yield from _prepare_cases(inputs)
    yield from _search_cases(inputs)


def _page_cases(inputs: Path) -> Iterator[Case]:
    run = inputs / "run"
    run.mkdir()
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    yield Case("curves", ("curves", str(run), "--output", "page.html"))


def _prepare_cases(inputs: Path) -> Iterator[Case]:
    from metro_fast.data import read_texts, train_tokenizer

    texts, more = inputs / "texts.txt", inputs / "more.txt"
    texts.write_text("".join(f"document {i} costs {i * 7} coins\n" for i in range(12)))
    more.write_text("".join(f"another {i} costs {i * 3} coins\n" for i in range(12)))
    tokenizer = train_tokenizer(read_texts(texts), vocab_size=60, num_sentinels=8)
    tokenizer.save_pretrained(inputs / "tokenizer")
    options = ("--output", "corpus", "--tokenizer", str(inputs / "tokenizer"))
    options += ("--piece-bytes", "200")
    # The values of the call are written beside the corpus when that is in its place.
    work = (".corpus.preparing/*", ".corpus.preparing.lock", "corpus/resolved_config.yaml")
    yield Case(
        "prepare",
        ("prepare", str(texts), *options),
        growing=work,
        other=("prepare", str(more), *options),
    )


def _search_cases(inputs: Path) -> Iterator[Case]:
    model = str(write_model(inputs / "model"))
    for seed, name in enumerate(("fine-one", "fine-two", "fine-three")):
        finetuned(inputs / "model", inputs / name, seed)
    pairs = inputs / "pairs.jsonl"
    rows = [{"input": f"what is {a} ?", "target": a} for a in ("red", "green", "blue")]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, two, three = (str(inputs / f"fine-{name}") for name in ("one", "two", "three"))
    rating = ("--model", model, "--examples", str(pairs))
    compose = ("expert", "compose", one, two, "--out", "out", "--steps", "3", *rating)
    yield Case(
        "compose",
        compose,
        done=FINISHED,
        growing=("out/search.jsonl", "out/adapter_config.json", "out/resolved_config.yaml"),
        other=("expert", "compose", one, three, "--out", "out", "--steps", "3", *rating),
    )
    grid = ("--densities", "0.1,0.5", "--alphas", "1,2")
    yield Case(
        "tune",
        ("expert", "tune", one, "out", *grid, *rating),
        growing=("out/search.jsonl", "out/tuning.*", "out/*_config.*"),
        other=("expert", "tune", two, "out", *grid, *rating),
    )
    whole = str(compressed(inputs / "fine-one", inputs / "fine-packed"))
    merge = ("expert", "merge", whole, "--base", model, "--out", "out")
    yield Case("merge --base", merge, done="is not empty")


def write_model(folder: Path) -> Path:
    """A T5 of width 16 with a tokenizer."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from metro_fast.data import train_tokenizer

    words = ["what is red ? green blue"]
    tokenizer = train_tokenizer(words, vocab_size=40, num_sentinels=4)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def finetuned(model: Path, folder: Path, seed: int) -> Path:
    """A LoRA of the model with random weights."""
    import peft
    import torch
    from transformers import AutoModelForSeq2SeqLM

    config = peft.LoraConfig(r=2, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
    adapted = peft.get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(model), config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    adapted.save_pretrained(folder)
    return folder

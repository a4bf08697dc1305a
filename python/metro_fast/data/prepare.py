"""From text files to a tokenized corpus."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast._pretrained import explained, load_tokenizer
from metro_fast.data.documents import find_files
from metro_fast.data.prepare_folder import begin, finish, is_finished, locked, work_folder
from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter


def prepare(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    tokenizer: Any,
    *,
    text_key: str = "text",
    eos_token: str | None = None,
    shuffle_documents: bool = False,
    seed: int = 0,
    num_workers: int = 1,
    progress: bool = True,
) -> Path:
    """Tokenize text files with datatrove into a folder that `TokenCorpus` opens.

    Every input file is one datatrove task and becomes one token file, so that the bytes of the
    result depend on the inputs, the tokenizer and the seed, and not on the number of workers. The
    folder appears whole or not at all. After an interruption the same call goes on where it
    stopped, and once the folder is there, it only compares the inputs' hashes. Special tokens
    spelled out in a text (`</s>`, `<extra_id_0>`) are read as the letters they are.

    Args:
        inputs: Files, or folders of files, in UTF-8: `.jsonl` with a text a line under `text_key`,
            or `.txt` with a document a line; either may be gzipped (`.gz`). Blank ones are skipped.
        output: Folder to make. Beside it, `.NAME.preparing` holds what is not finished.
        tokenizer: A `PreTrainedTokenizerFast`, or a folder or `tokenizer.json` to load one from. It
            is saved to `output/tokenizer`.
        text_key: Key of the text in JSON lines.
        eos_token: Token that ends every document; the tokenizer's EOS by default.
        shuffle_documents: Shuffle the documents within each file.
        seed: Seed of the shuffle.
        num_workers: Processes; a script that uses more than 1 needs an `if __name__ == "__main__"`.
        progress: Show a bar, if on a terminal.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: If an input does not exist.
        FormatError: If an input is damaged (the message names the line), or a finished `output` is.
        MetroFastError: If there is nothing to tokenize, a value is outside its domain, `output`
            holds something else, or another process is preparing it.
        OSError: If the output cannot be written.

    Example:
        >>> prepare("texts/", "corpus/", tokenizer)  # doctest: +SKIP
        PosixPath('corpus')
    """
    if check_counter("num_workers", num_workers) == 0:
        raise MetroFastError("num_workers is 0, expected 1 or more")
    check_counter("seed", seed)
    files = find_files(inputs)
    fast = _load(tokenizer)
    eos_token = eos_token if eos_token is not None else fast.eos_token
    if eos_token is None or eos_token not in fast.get_vocab():
        raise MetroFastError(f"eos_token is {eos_token!r}, expected a token of the tokenizer")
    backend = _plain_backend(fast)
    record = {
        "format": "metro_fast prepare 1",
        "inputs": [[file.name, _sha256(file)] for file in files],
        "tokenizer_sha256": hashlib.sha256(backend.to_str().encode()).hexdigest(),
        "text_key": text_key,
        "eos_token": eos_token,
        "shuffle_documents": shuffle_documents,
        "seed": seed if shuffle_documents else None,
    }
    final = Path(output)
    work = work_folder(final)
    with locked(work):
        if is_finished(final, record):
            return final
        begin(work, record)
        fast.save_pretrained(work / "tokenizer")
        backend_file = work / "backend.json"
        backend.save(str(backend_file))
        require("datatrove", "train")
        from metro_fast.data.datatrove_steps import tokenize

        tokenize(
            [file.absolute() for file in files],
            work,
            work / "logs",
            tokenizer_file=backend_file,
            eos_token=eos_token,
            text_key=text_key,
            shuffle_documents=shuffle_documents,
            seed=seed,
            num_workers=num_workers,
            progress=progress,
        )
        finish(work, final, record, f"tokenizer sha256:{record['tokenizer_sha256']}")
    return final


def _sha256(file: Path) -> str:
    """Hash of a file's bytes: a name and a size would take a changed file for the old one.

    It reads well over 100 MB a second, where tokenizing takes in a few.
    """
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _load(tokenizer: Any) -> Any:
    """The fast tokenizer that the caller gave or named."""
    transformers = require("transformers", "train")
    if isinstance(tokenizer, str | Path):
        path = Path(tokenizer)
        if path.is_file():
            with explained(f"the tokenizer {path}"):
                return transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
        return load_tokenizer(path)
    if not getattr(tokenizer, "is_fast", False):
        raise TypeError(
            f"tokenizer is a {type(tokenizer).__name__}, expected a fast tokenizer of "
            "transformers, or the path of one"
        )
    return tokenizer


def _plain_backend(fast: Any) -> Any:
    """A copy of the Rust tokenizer that neither cuts nor pads, whatever it was last used for."""
    backend = require("tokenizers", "train").Tokenizer.from_str(fast.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend

"""Writes token files from existing ids."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from metro_fast._atomic import write_atomically
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import integers


def write_corpus(
    path: str | Path,
    documents: Iterable[Sequence[int]],
    *,
    token_width: int = 2,
    name: str = "00000_unshuffled",
    tokenizer_name: str = "unknown",
) -> None:
    """Write documents as one token file in datatrove's layout, for tests and small corpora.

    `NAME.ds` holds little-endian ids, `NAME.ds.index` the end of each document in tokens (u64), and
    `NAME.ds.metadata` the lines `tokenizer|bytes per token` and the number of tokens. Each file
    appears complete or not at all, and the token file comes last.

    Args:
        path: Folder, which is made if it is missing.
        documents: Token ids of each document, including its EOS.
        token_width: 2 or 4, the number of bytes per token.
        name: Name of the file without `.ds`. A corpus is sorted by these names.
        tokenizer_name: Name of the tokenizer in the metadata.

    Raises:
        MetroFastError: If the width is not 2 or 4, an id does not fit into it, or a name has a
            folder or more than one line.
        OSError: If the folder cannot be written.

    Example:
        >>> write_corpus("two-documents", [[5, 6, 1], [7, 1]])
        >>> sorted(path.name for path in Path("two-documents").iterdir())[0]
        '00000_unshuffled.ds'
    """
    if token_width not in (2, 4):
        raise MetroFastError(f"token_width is {token_width}, expected 2 or 4 bytes")
    if not name or Path(name).name != name:
        raise MetroFastError(
            f"name is {quoted(name)}, expected the name of a file without a folder"
        )
    if len(tokenizer_name.splitlines()) != 1:
        raise MetroFastError(f"tokenizer_name is {quoted(tokenizer_name)}, expected one line")
    rows = [integers("documents", document) for document in documents]
    ids = np.concatenate(rows) if rows else np.empty(0, np.int64)
    limit = 1 << (8 * token_width)
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < limit:
        raise MetroFastError(
            f"documents hold ids from {int(ids.min())} to {int(ids.max())}, "
            f"expected 0 to {limit - 1} for token_width {token_width}"
        )
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    ends = np.cumsum([len(row) for row in rows], dtype="<u8")
    write_atomically(folder / f"{name}.ds.index", ends.tobytes())
    metadata = f"{tokenizer_name}|{token_width}\n{ids.size}\n{ids.size} T"
    write_atomically(folder / f"{name}.ds.metadata", metadata.encode())
    write_atomically(folder / f"{name}.ds", ids.astype(f"<u{token_width}").tobytes())

"""One text in every form that `prepare` reads, and the files that its tests compare.

Also a program: `python tests/support/prepare_cases.py INPUT OUTPUT TOKENIZER WORKERS PIECE_BYTES`
prepares, and `... ray FOLDER` has Ray do so.
"""

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

from metro_fast import ops

OPTIONS = {"piece_bytes": 300, "shuffle_documents": True, "seed": 3}
TEXTS = [f"document {i}: it costs {i * 7} coins, ümlaut and all, they say." for i in range(60)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def token_files(folder: Path) -> dict[str, bytes]:
    """The files from which a corpus is read."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.ds*"))}


def jsonl(texts: list[str]) -> str:
    return "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts))


def write_parquet(path: Path, texts: list[str], rows: int = 4) -> None:
    """Row groups of a few rows; the column before the text has two leaves."""
    import pyarrow as pa
    from pyarrow import parquet

    pairs = [{"a": i, "b": "x"} for i in range(len(texts))]
    parquet.write_table(pa.table({"pair": pairs, "text": texts}), path, row_group_size=rows)


def make_input(form: str, folder: Path) -> Any:
    """`TEXTS` as one input of a form."""
    path = folder / f"texts.{form}"
    folder.mkdir(parents=True, exist_ok=True)
    if form == "txt":
        path.write_text("\n".join(TEXTS))
    elif form == "jsonl":
        path.write_text(jsonl(TEXTS))
    elif form == "jsonl.gz":
        path.write_bytes(gzip.compress(jsonl(TEXTS).encode()))
    elif form == "jsonl.zst":
        import pyarrow as pa

        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(jsonl(TEXTS).encode())
    elif form == "parquet":
        write_parquet(path, TEXTS)
    elif form == "mixed":
        for part, name in enumerate(("jsonl", "txt", "parquet")):
            texts = TEXTS[part * 20 : part * 20 + 20]
            if name == "parquet":
                write_parquet(path.with_name("c.parquet"), texts)
            else:
                content = jsonl(texts) if name == "jsonl" else "\n".join(texts)
                path.with_name(f"{'ab'[part]}.{name}").write_text(content)
        return folder
    else:
        return _dataset(form, folder)
    return path


def _dataset(form: str, folder: Path) -> Any:
    from datasets import Dataset

    dataset = Dataset.from_dict({"id": list(range(len(TEXTS))), "text": TEXTS})
    if form == "saved":
        dataset.save_to_disk(folder / "saved")
        return folder / "saved"
    if form == "stream":
        return dataset.to_iterable_dataset(num_shards=5)
    if form == "selected":  # has an indices mapping
        odd = dataset.select(range(1, len(TEXTS), 2))
        even = dataset.select(range(0, len(TEXTS), 2))
        return [even, odd]
    return dataset


FORMS = [
    "txt", "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "mixed", "saved", "dataset", "selected",
    "stream",
]  # fmt: skip


def environment() -> dict[str, str]:
    """The environment of a process that imports the package under test."""
    package = str(Path(ops.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": package, "RAY_AUTH_MODE": "disabled"}


def _run_ray(folder: Path) -> None:
    """Two tasks, in a process of its own: errors in datatrove's threads are never reported."""
    import ray
    from datatrove.executor import RayPipelineExecutor

    from metro_fast.data import finish_prepare, prepare_pipeline

    inputs = [folder / "mixed", folder / "saved" / "saved"]
    pipeline = prepare_pipeline(inputs, folder / "out", folder / "tokenizer", **OPTIONS)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    RayPipelineExecutor(
        pipeline=pipeline.steps, tasks=2, mem_per_cpu_gb=0.1, logging_dir=str(folder / "logs")
    ).run()
    ray.shutdown()
    finish_prepare(folder / "out")


if __name__ == "__main__":
    if sys.argv[1] == "ray":
        _run_ray(Path(sys.argv[2]))
    else:
        from metro_fast.data import prepare

        source, output, tokenizer, workers, piece_bytes = sys.argv[1:]
        prepare(source, output, tokenizer, num_workers=int(workers), piece_bytes=int(piece_bytes))

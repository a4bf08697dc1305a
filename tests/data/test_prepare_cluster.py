"""prepare_pipeline: the executors of datatrove give the bytes of `prepare`."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import dill
import pytest
from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline.filters import LambdaFilter

from metro_fast import FormatError, MetroFastError
from metro_fast.data import (
    TokenCorpus,
    finish_prepare,
    prepare,
    prepare_pipeline,
    train_tokenizer,
)

SUPPORT = Path(__file__).parents[1] / "support"

from prepare_cases import (
    OPTIONS,
    TEXTS,
    contents,
    environment,
    make_input,
    token_files,
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, vocab_size=300, num_sentinels=10)


@pytest.fixture
def inputs(tmp_path):
    return [make_input("mixed", tmp_path / "mixed"), make_input("saved", tmp_path / "saved")]


@pytest.fixture
def expected(inputs, tokenizer, tmp_path):
    return contents(prepare(inputs, tmp_path / "here", tokenizer, progress=False, **OPTIONS))


def run_here(pipeline, logs, tasks):
    for task in range(tasks):
        executor = LocalPipelineExecutor(
            pipeline.steps, tasks, 1, logging_dir=str(logs), local_tasks=1, local_rank_offset=task
        )
        executor._run_for_rank(task)  # `run` of one worker, without its manager process


def test_tasks_of_an_executor_give_the_bytes_of_prepare(inputs, expected, tokenizer, tmp_path):
    pipeline = prepare_pipeline(inputs, tmp_path / "out", tokenizer, **OPTIONS)
    assert pipeline.pieces == sum(name.endswith(".ds") for name in expected)
    run_here(pipeline, tmp_path / "logs", tasks=3)
    assert contents(finish_prepare(tmp_path / "out")) == expected
    assert finish_prepare(tmp_path / "out") == tmp_path / "out"  # a second call does no harm
    assert prepare(inputs, tmp_path / "out", tokenizer, **OPTIONS) == tmp_path / "out"
    with pytest.raises(MetroFastError, match="is already finished: there is nothing left to run"):
        prepare_pipeline(inputs, tmp_path / "out", tokenizer, **OPTIONS)
    with pytest.raises(MetroFastError, match=r"backend\.json is missing: the output is finished"):
        pipeline.steps[1](pipeline.steps[0](None, 0, 1), 0, 1)


def test_missing_and_damaged_pieces_are_named(inputs, expected, tokenizer, tmp_path):
    with pytest.raises(MetroFastError, match="no pipeline was made for"):
        finish_prepare(tmp_path / "out")
    pipeline = prepare_pipeline(inputs, tmp_path / "out", tokenizer, **OPTIONS)
    steps = pipeline.steps
    steps[1](steps[0](None, 1, 5), 1, 5)
    with pytest.raises(MetroFastError, match=r"pieces in .* are not done \(0, 2, 3, 4, 5, 7, 8,"):
        finish_prepare(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    again = prepare_pipeline(
        inputs, tmp_path / "out", tokenizer, **OPTIONS
    )  # keeps finished pieces
    stamp = (pipeline.work / "00001_00000_doc_shuffled.ds").stat().st_mtime_ns
    run_here(again, tmp_path / "logs", tasks=2)
    file = pipeline.work / "00001_00000_doc_shuffled.ds"
    assert file.stat().st_mtime_ns == stamp
    whole = file.read_bytes()
    file.write_bytes(whole[:-2])
    with pytest.raises(FormatError, match=r"00001_00000_doc_shuffled\.ds is missing or does not"):
        finish_prepare(tmp_path / "out")
    file.write_bytes(whole)
    assert contents(finish_prepare(tmp_path / "out")) == expected


def test_a_piece_that_two_tasks_write_at_once_is_whole(inputs, expected, tokenizer, tmp_path):
    pipeline = prepare_pipeline(inputs, tmp_path / "out", tokenizer, **OPTIONS)
    read, write = pipeline.steps
    own = read(None, 0, 1)

    def overtaken():
        yield next(own)
        write(read(None, 0, 1), 0, 1)  # the cluster believed that this task was lost
        yield from own

    write(overtaken(), 0, 1)
    assert contents(finish_prepare(tmp_path / "out")) == expected
    with pytest.raises(MetroFastError, match=r"backend\.json is missing"):
        write(read(None, 0, 1), 0, 1)  # a task that comes too late
    assert not pipeline.work.exists()


def test_filters_may_stand_between_the_steps(tokenizer, tmp_path):
    path = make_input("txt", tmp_path)
    pipeline = prepare_pipeline(path, tmp_path / "out", tokenizer, piece_bytes=300)
    keep = LambdaFilter(lambda document: "5" in document.text.partition(":")[0])
    pipeline.steps.insert(1, keep)
    run_here(pipeline, tmp_path / "logs", tasks=2)
    assert TokenCorpus(finish_prepare(tmp_path / "out"), block_size=9).num_documents == 15
    with pytest.raises(MetroFastError, match=r"metadata\['piece'\]"):
        prepare_pipeline(path, tmp_path / "o", tokenizer).steps[1]([_document()], 0, 1)


def _document(**metadata):
    from datatrove.data import Document

    return Document(text="x", id="x", metadata=metadata)


def test_documents_out_of_order_are_refused(tokenizer, tmp_path):
    path = make_input("txt", tmp_path)
    write = prepare_pipeline(path, tmp_path / "out", tokenizer, piece_bytes=300).steps[1]
    with pytest.raises(MetroFastError, match="piece 0 reached task 0 of 1 out of order"):
        write([_document(piece=3), _document(piece=0)], 0, 1)


def test_slurm(inputs, expected, tokenizer, tmp_path, monkeypatch):
    """The script that sbatch gets, and what its jobs run: the pickled executor."""
    launched = []
    monkeypatch.setattr(
        "datatrove.executor.slurm.launch_slurm_job",
        lambda script, *args: launched.append(script) or "7",
    )
    pipeline = prepare_pipeline(inputs, tmp_path / "out", tokenizer, **OPTIONS)
    SlurmPipelineExecutor(
        pipeline=pipeline.steps,
        tasks=4,
        time="01:00:00",
        partition="cpu",
        cpus_per_task=2,
        venv_path="/shared/venv/bin/activate",
        logging_dir=str(tmp_path / "logs"),
    ).run()
    assert "#SBATCH --array=0-3\n" in launched[0]
    assert "source /shared/venv/bin/activate" in launched[0]
    assert f"launch_pickled_pipeline {tmp_path}/logs/executor.pik" in launched[0]
    monkeypatch.setattr("datatrove.executor.slurm.expand_slurm_nodelist", lambda nodes: [nodes])
    monkeypatch.setenv("SLURM_NODELIST", "localhost")
    for task in range(4):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        with (tmp_path / "logs" / "executor.pik").open("rb") as file:
            dill.load(file).run()
    assert contents(finish_prepare(tmp_path / "out")) == expected


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_ray(inputs, expected, tokenizer, tmp_path):
    """Slow: Ray starts its servers."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    command = [sys.executable, str(SUPPORT / "prepare_cases.py"), "ray", str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    # A tokenizer that was loaded is saved with other settings: the rest of the folder differs.
    files = token_files(tmp_path / "out")
    assert files == {name: bytes_ for name, bytes_ in expected.items() if name in files}
    assert len(files) == 3 * sum(name.endswith(".ds") for name in expected)

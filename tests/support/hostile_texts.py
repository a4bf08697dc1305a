"""Hostile YAML and JSON files, and what each door that reads such files makes of them.

`python tests/support/hostile_texts.py` tries every file at every door, each in a process of its own
whose memory is limited, and prints what is wrong; the suite tries them in one process.
"""

import json
import multiprocessing
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from cost import measured
from front_door import call
from metro_fast.cli.config import read_config
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.state_file import shard_files
from metro_fast.metro.curves_runs import read_runs
from metro_fast.prompts import InstructionSet, Task
from metro_fast.prompts.importers import import_flan, import_promptbench, import_promptsource
from metro_fast.prompts.readers import read_bbh, read_fewrel, read_mmlu, read_table
from metro_fast.robustness import Report
from metro_fast.robustness.doors import read_helm, read_inspect, read_lm_eval_samples
from metro_fast.tuning.pair_loss import read_pairs

MOST_SECONDS, MOST_MEGABYTES, MOST_CHARACTERS = 1.0, 100, 1000

_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{n}: &{n} [{','.join([f'*{before}'] * 9)}]\n"
    for before, n in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML: dict[str, str | bytes] = {
    "alias bomb": _BOMB,
    "alias bomb of mappings": "a: &a {x: 1}\n"
    + "".join(
        f"{n}: &{n} {{{','.join(f'k{i}: *{before}' for i in range(9))}}}\n"
        for before, n in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "alias of itself": "a: &a [*a]",
    "alias as a key": "a: &a x\n*a : 1",
    "unknown alias": "a: *" + "b" * 1_000_000,
    "lists": "a: " + "[" * 100_000,
    "closed lists": "a: " + "[" * 5000 + "]" * 5000,
    "objects": "a: " + "{a: " * 100_000,
    "nested dashes": "- " * 100_000,
    "nested block mappings": "".join(f"{' ' * n}a:\n" for n in range(3000)),
    "key given twice": "a: 1\na: 2",
    "key given twice, once quoted": 'a: 1\n"a": 2',
    "long key": "? " + "b" * 1_000_000 + "\n: [",
    "merge key": "a: &a {x: 1}\nb: {<<: *a}",
    "a list as a key": "? [a]\n: 1",
    "python object": "a: !!python/object/apply:os.system [true]",
    "python name": "a: !!python/name:os.system ''",
    "python module": "a: !!python/module:antigravity ''",
    "tagged number": "a: !!int x",
    "tagged timestamp": "a: !!timestamp 2020-13-45",
    "tagged binary": "a: !!binary '%%%'",
    "tagged set": "a: !!set {x}",
    "tagged pairs": "a: !!omap [x: 1, x: 2]",
    "own tag": "a: !nosuch 1",
    "directive of tags": "%TAG ! tag:yaml.org,2002:python/\n---\na: !object/apply:os.system [x]",
    "version of the future": "%YAML 9.9\n---\na: [",
    "integer of 5,000 digits": "a: " + "1" * 5000,
    "hexadecimal of 5,000 digits": "a: 0x" + "f" * 5000,
    "1e400": "a: 1e400",
    "infinity": "a: .inf",
    "not a number": "a: .nan",
    "half of a pair": 'a: "\\ud800"',
    "NUL": "a: \0",
    "escape of a terminal": "a: \x1b[2J",
    "invalid UTF-8": b"a: \xff",
    "overlong UTF-8": b"a: \xc0\x80",
    "UTF-16": "a: 1".encode("utf-16"),
    "UTF-32": "a: 1".encode("utf-32"),
    "tab": "a:\n\tb: 1",
    "several documents": "a: 1\n---\nb: 2",
    "text not closed": 'a: "b',
    "anchors alone": "".join(f"&a{n} " for n in range(1000)) + "x",
    "many values": "a: [" + "1," * 1_000_000 + "]",
    "many keys": "\n".join(f"a{n}: 1" for n in range(100_000)),
    "17 MB": "a: " + "b" * 17_000_000,
    "a list": "- a",
    "a text": "a",
}
JSON: dict[str, str | bytes] = {
    "a list not closed": "[",
    "lists": "[" * 100_000,
    "closed lists": "[" * 500 + "]" * 500,
    "101 lists": "[" * 101 + "]" * 101,
    "objects": '{"a":' * 100_000,
    "many empty lists": "[" + "[]," * 5_500_000 + "[]]",
    "many empty objects": "[" + "{}," * 5_500_000 + "{}]",
    "many numbers": "[" + "1," * 8_000_000 + "1]",
    "17 MB of a text": '{"id": "' + "a" * 17_000_000 + '"}',
    "17 MB of spaces": " " * 17_000_000 + "{",
    "40 MB of quotes": '"\\"' * 14_000_000,
    "key given twice": '{"id": "1", "id": "2"}',
    "key given twice, once escaped": '{"id": "1", "\\u0069d": "2"}',
    "long key given twice": json.dumps("b" * 1_000_000).join(("{", ":1,"))
    + json.dumps("b" * 1_000_000)
    + ":2}",
    "integer of 5,000 digits": '{"id": ' + "1" * 5000 + "}",
    "integer of 301 digits": '{"id": ' + "1" * 301 + "}",
    "integer of 15 million digits": '{"id": ' + "1" * 15_000_000 + "}",
    "1e400": '{"id": 1e400}',
    "1e-9999999": '{"id": -1e9999999}',
    "NaN": '{"id": NaN',
    "-Infinity": '{"id": -Infinity',
    "half of a pair": '{"id": "\\ud800"}',
    "half of a pair as a key": '{"\\udfff": 1}',
    "halves the wrong way round": '{"id": "\\udc00\\ud800"}',
    "NUL": '{"id": "\0"}',
    "escape of a terminal": '{"id": "\x1b[2J"}',
    "line break in a text": '{"id": "a\r\nb"}',
    "invalid UTF-8": b'{"id": "\xff"}',
    "overlong UTF-8": b'{"id": "\xc0\x80"}',
    "UTF-16": '{"id": 1}'.encode("utf-16"),
    "UTF-32": '{"id": 1}'.encode("utf-32"),
    "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf{}",
    "a text": '"' + "a" * 1_000_000 + '"',
    "a number": "1" * 1_000_000,
    "two values": "{} {}",
    "a comment": '{"id": 1} // one',
    "a comma too many": '{"id": 1,}',
    "single quotes": "{'id': 1}",
    "a pickle": b"\x80\x04cposix\nsystem\n.",
    "zeros": bytes(1_000_000),
}


def _configured(*command: str) -> Callable[[Path], object]:
    """The configuration file of a command, through the program; its answer is raised again."""

    def read(path: Path) -> None:
        ended = call(*command, "--config", str(path))
        assert "Traceback" not in ended.stderr, ended.stderr
        assert ended.status == 1, ended
        raise MetroFastError(ended.stderr)

    return read


def _index(path: Path) -> object:
    folder = path.parent / "sharded"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors.index.json").write_bytes(path.read_bytes())
    return shard_files(folder)


def _state(path: Path) -> object:
    folder = path.parent / "run"
    folder.mkdir(exist_ok=True)
    (folder / "trainer_state.json").write_bytes(path.read_bytes())
    return read_runs([folder])


_COMMANDS = {
    "prepare": ("prepare", "text.txt", "--output", "out"),
    "pretrain": ("pretrain",),
    "finetune": ("finetune",),
    "evaluate": ("evaluate",),
    "expert compress": ("expert", "compress", "one", "out"),
    "expert merge": ("expert", "merge", "one", "two", "--out", "out"),
    "expert compose": ("expert", "compose", "one", "two"),
    "expert tune": ("expert", "tune", "one", "out"),
}
YAML_DOORS: dict[str, Callable[[Path], object]] = {
    "read_config": read_config,
    "InstructionSet.load": InstructionSet.load,
    "import_promptsource": import_promptsource,
    **{f"{name} --config": _configured(*line) for name, line in _COMMANDS.items()},
}
JSON_DOORS: dict[str, Callable[[Path], object]] = {
    "InstructionSet.load": InstructionSet.load,
    "Task.load": Task.load,
    "import_flan": import_flan,
    "import_promptbench": import_promptbench,
    "read_bbh": read_bbh,
    "read_fewrel": read_fewrel,
    "read_mmlu": read_mmlu,
    "read_table": lambda path: read_table(path, task_type="qa", answer="answer"),
    "read_pairs": read_pairs,
    "read_inspect": read_inspect,
    "read_helm": read_helm,
    "read_lm_eval_samples": lambda path: read_lm_eval_samples(path, model_name="m", task="t"),
    "Report.load": Report.load,
    "an index of shards": _index,
    "curves": _state,
}


def trial(read: Callable[[Path], object], path: Path, most_seconds: float = MOST_SECONDS) -> str:
    """Read a hostile file: what is wrong with the answer, or ""."""
    try:
        with measured() as cost, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
        return "it is taken"
    except MetroFastError as error:
        text = str(error).replace(str(path), "")
        if len(text) > MOST_CHARACTERS or not all(c.isprintable() or c == "\n" for c in text):
            return f"the message is long or moves the cursor: {text[:200]!r}"
    except Exception as error:  # noqa: BLE001  (what is counted here)
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    size = path.stat().st_size / 2**20  # the bytes of the file and their text
    if cost.seconds > most_seconds:
        return f"{cost.seconds:.1f} s"
    return f"{cost.megabytes:.0f} MB" if cost.megabytes - 2 * size > MOST_MEGABYTES else ""


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a hostile file."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _try(kind: str, door: str, name: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    files, doors = (YAML, YAML_DOORS) if kind == "yaml" else (JSON, JSON_DOORS)
    with TemporaryDirectory() as folder:
        found = trial(doors[door], write(Path(folder), f"file.{kind}", files[name]))
    if found:
        print(f"{kind} {door}, {name}: {found}", flush=True)
        sys.exit(1)


def main() -> None:
    """Try everything and print what is wrong."""
    fork = multiprocessing.get_context("fork")
    wrong = tried = 0
    for kind, files, doors in (("yaml", YAML, YAML_DOORS), ("json", JSON, JSON_DOORS)):
        for door in doors:
            for name in files:
                process = fork.Process(target=_try, args=(kind, door, name))
                process.start()
                process.join()
                tried += 1
                wrong += process.exitcode != 0
    print(f"{len(YAML)} YAML and {len(JSON)} JSON files, {tried} trials, {wrong} wrong")


if __name__ == "__main__":
    main()

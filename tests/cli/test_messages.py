"""The words of each command about wrong input: (command, wrong input, message), read aloud."""

import json
from pathlib import Path

import numpy as np
import pytest

from front_door import call
from metro_fast.experts import compress
from metro_fast.experts.adapters.peft_folder import write_folder
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.prompts import Instruction, InstructionSet, Item, Task


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters, plain and compressed; a task and wordings; a text."""
    folder = tmp_path_factory.mktemp("room")
    rng = np.random.default_rng(5)
    for name in ("one", "two"):
        raw = {}
        for factor, shape in (("A", (4, 40)), ("B", (40, 4))):
            key = f"base_model.model.layers.0.q.lora_{factor}.weight"
            raw[key] = RawTensor.of(rng.standard_normal(shape).astype(np.float32), key)
        write_folder(folder / name, raw, json.dumps({"peft_type": "LORA", "r": 4}).encode())
        compress(folder / name, density=0.5).save(folder / f"{name}-packed")
    items = [Item(str(n), {"text": "red ."}, ("red", "blue"), 0) for n in range(2)]
    for name in ("colors", "more"):
        Task(name, "color", items).save(folder / f"{name}.jsonl")
    wordings = [Instruction("a", "color", "{{ text }} what ?", seen_by=("t0", "flan-t5"))]
    InstructionSet(wordings).save(folder / "words.yaml")
    (folder / "text.txt").write_text("one two\n")
    (folder / "model").mkdir()
    return folder


PACKED = "one-packed two-packed"
PAIR = f"expert merge {PACKED} --out out"
TUNE = "finetune --model model --tasks colors.jsonl --instructions words.yaml --output out"
RUN = "pretrain --output out --data.corpus c"
# Every row: the command line, its exit status, and what it has to say.
TABLE = [
    ("exprt", 2, "No such command 'exprt'. Did you mean `metro-fast expert export`"),
    ("pretrian", 2, "Did you mean `metro-fast pretrain`?"),
    ("compress a b", 2, "Did you mean `metro-fast expert compress`?"),
    ("expert comprss a", 2, "No such command 'comprss'. Did you mean `metro-fast expert compress`"),
    ("expert pretrain", 2, "Did you mean `metro-fast pretrain`?"),
    ("prompts imprt", 2, "Did you mean `metro-fast prompts import` or `metro-fast import-log`?"),
    ("nothing-like-it", 2, "The commands of metro-fast are prepare, pretrain,"),
    ("--verison", 2, "No such option: --verison (Possible options: --version)"),
    ("expert compress one out --scoop tensor", 2, "(Possible options: --json, --scope)"),
    # names of parameters are flags
    ("expert compress one out --density 2", 1, "--density is 2, expected a share in (0, 1]"),
    ("expert compress one out --alpha big", 1, "--alpha is 'big', expected a number"),
    (
        "expert compress one out --quantize sign --density 0.2",
        1,
        "--density is 0.2, but --quantize sign keeps every entry: leave it out",
    ),
    (
        "expert compress one out --upstream --density 1",
        1,
        "--density is 1 with --upstream, which leaves the weights unchanged: lower --density",
    ),
    ("expert compress one out --threads 0", 1, "--threads is 0, expected 1 or more\n"),
    ("expert compress one out --kind ia3", 1, "--kind is 'ia3', but the adapter's is 'lora'"),
    (f"{PAIR} --weights a,b", 1, "--weights are 'a,b', expected numbers separated by commas"),
    (f"{PAIR} --heads-from 7", 1, "--heads-from is 7, expected 0 to 1"),
    (f"{PAIR} --space delta --rank 0", 1, "--rank is 0, expected a whole number of at least 1"),
    ("prepare text.txt --output out --train-vocabulary 5", 1, "--train-vocabulary is 5, expected"),
    # files are named, without numbers of the operating system
    ("prompts check --tasks nowhere --instructions words.yaml", 1, "nowhere: No such file"),
    ("expert compress one text.txt", 1, "text.txt: File exists\n"),
    ("expert inspect nowhere", 1, "nowhere"),
    # an option that would do nothing
    (f"{PAIR} --merge-function max", 1, "--merge-function does nothing without --method ties"),
    (f"{PAIR} --sign-ties compeft", 1, "--sign-ties does nothing without --method ties"),
    (f"{PAIR} --majority frequency", 1, "--majority does nothing without --method ties"),
    (f"{PAIR} --space factors --rank 3", 1, "--rank does nothing without --space delta"),
    (f"{PAIR} --space factors --trim 0.5", 1, "--trim does nothing without --space delta"),
    ("expert push one-packed a/b --no-card --replace-card", 1, "--replace-card is for the card"),
    ("prepare text.txt --output o --tokenizer t --seed 1", 1, "without --shuffle-documents"),
    ("prepare text.txt --output o --tokenizer t --num-sentinels 9", 1, "--train-vocabulary"),
    ("expert card one-packed --initial one", 1, "--initial does nothing without --adapter"),
    ("expert card one-packed --replace", 1, "--replace does nothing without --write"),
    ("prompts import nli --kind own --output o.yaml --seen-by t", 1, "--seen-by does nothing"),
    ("prompts import nli --kind own --output o.yaml --task-type t", 1, "--task-type does nothing"),
    ("prompts read x --kind mmlu --output o.jsonl --answer a", 1, "--answer does nothing without"),
    ("prompts read x --kind mmlu --output o.jsonl --names a", 1, "without --kind fewrel"),
    ("prompts read x --kind semeval --output o --task-type a", 1, "--task-type does nothing"),
    # several values after one flag, where the line does not say which is which
    ("expert compress --dense a b one out", 1, "give the flag before each value, --dense A"),
    ("env extra", 2, "Got unexpected extra argument(s) (extra)"),
]
COMPOSE = "expert compose one two --model model --out out --examples text.txt"
SEARCH = "expert tune one out --model model --examples text.txt"
ASK = "evaluate --model model --tasks colors.jsonl --instructions words.yaml --output out"
TORCH = [
    (f"{COMPOSE} --strict", 1, "--strict does nothing without --tasks: leave it out"),
    (f"{COMPOSE} --instructions words.yaml", 1, "--instructions does nothing without --tasks"),
    (f"{SEARCH} --strict", 1, "--strict does nothing without --tasks: leave it out"),
    (f"{SEARCH} --instructions words.yaml", 1, "--instructions does nothing without --tasks"),
    (f"{SEARCH} --quantize stc --alphas 1", 1, "--alphas does nothing without --quantize compeft"),
    (f"{SEARCH} --quantize sign --alphas 1", 1, "--alphas does nothing without"),
    (f"{SEARCH} --quantize sign --densities 0.2", 1, "--densities does nothing without --quantize"),
    (f"{ASK} --few-shot-seed 3", 1, "--few-shot-seed does nothing without --few-shot"),
    (f"{ASK} --max-new-tokens 3", 1, "--max-new-tokens does nothing without --preset generate_m"),
    (
        f"{RUN} --data.evaluation_rows 0 --training.eval_steps 2",
        1,
        "--training.eval_steps is given",
    ),
    (
        f"{RUN} --data.evaluation_rows 0 --data.evaluation_corpus d",
        1,
        "--data.evaluation_corpus is",
    ),
    ("pretrain", 1, "output is not given"),
    ("pretrain --output out", 1, "--data.corpus is not given, and has no default: set it"),
    (f"{RUN} --training.max_steps 0", 1, "--training.max_steps is 0, expected at least 1"),
    (f"{RUN} --training.max_steps many", 1, "--training.max_steps is 'many', expected a whole"),
    (f"{RUN} --data.block_size 0", 1, "--data.block_size is 0, expected at least"),
    (f"{RUN} --model.num_layers 0", 1, "--model.num_layers is 0, expected at least 1"),
    (f"{RUN} --auxiliary.num_layers 0", 1, "--auxiliary.num_layers is 0, expected at least 1"),
    (f"{RUN} --num_threads -1", 1, "--num-threads is -1, expected at least 0"),
    (
        f"{RUN} --objective.name span --objective.rtd_weight 1",
        1,
        "--objective.rtd_weight is a setting of metro, and --objective.name is 'span': leave it",
    ),
    (f"{RUN} --objective.name span --auxiliary.num_layers 1", 1, "--auxiliary.num_layers is given"),
    (f"{TUNE} --seen-by t5", 1, "--seen-by is 't5', which no instruction of words.yaml has"),
    (f"{TUNE} --seen-by t5", 1, "they name flan-t5, t0"),
    (f"{TUNE} --rank 4", 1, "--rank does nothing without --method lora: leave it out"),
    (f"{TUNE} --target-modules q v", 1, "--target-modules does nothing without --method lora"),
    (f"{TUNE} --evaluation-steps 2", 1, "--evaluation-steps does nothing without --evaluation-ta"),
    (f"{TUNE} --steps 0", 1, "--steps is 0, expected at least 1"),
    (f"{TUNE} --learning-rate -1", 1, "--learning-rate is -1.0, expected"),
    (f"{TUNE} --save_steps 4", 2, "--save-steps"),
    (f"{TUNE.replace('model model', 'model me/none')} --steps 1", 1, "me/none is neither a folder"),
]


@pytest.mark.parametrize(("line", "status", "message"), TABLE, ids=[row[0] for row in TABLE])
def test_a_wrong_line_and_what_is_said(room: Path, line: str, status: int, message: str) -> None:
    check(room, line, status, message)


@pytest.mark.parametrize(("line", "status", "message"), TORCH, ids=[row[0] for row in TORCH])
def test_a_wrong_run_and_what_is_said(room: Path, line: str, status: int, message: str) -> None:
    pytest.importorskip("torch")
    check(room, line, status, message)


def check(room: Path, line: str, status: int, message: str) -> None:
    ended = call(*line.split(), folder=room)
    assert ended.status == status
    assert message.rstrip() in ended.said
    if message.endswith("\n"):
        assert ended.said.endswith(message.rstrip())
    assert "Traceback" not in ended.stderr
    assert not (room / "out").exists()
    # Neither Python's spelling nor the system's numbers.
    for wrong in ("=True", "=False", "=None", "Errno", "sha256"):
        assert wrong not in ended.stderr


def test_the_library_keeps_its_own_words(room: Path) -> None:
    with pytest.raises(ValueError, match=r"^density is 1 with upstream=True.*: lower density$"):
        compress(room / "one", density=1, upstream=True)


@pytest.mark.parametrize(
    "line",
    [
        "prompts check --tasks colors.jsonl more.jsonl --instructions words.yaml",
        "prompts check --instructions words.yaml --tasks colors.jsonl more.jsonl",
        "prompts check --tasks colors.jsonl --tasks more.jsonl --instructions words.yaml",
    ],
)
def test_a_flag_that_repeats_takes_several_values(room: Path, line: str) -> None:
    ended = call(*line.split(), folder=room)
    assert ended.status == 0, ended.stderr
    assert "colors" in ended.stdout
    assert "more" in ended.stdout


@pytest.mark.parametrize(
    "line", ["one {out} --dense *A* *B*", "--dense *A* *B* --rows 1 one {out}"]
)
def test_values_and_arguments_are_told_apart(room: Path, line: str, tmp_path: Path) -> None:
    # Both factors are kept whole, so nothing is left to compress: both patterns were read.
    ended = call("expert", "compress", *line.format(out=tmp_path / "o").split(), folder=room)
    assert ended.status == 1
    assert "no float32, float16 or bfloat16 tensor to compress" in ended.said


def test_one_value_in_a_file_is_a_list_of_one(room: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    for text in ("dense: '*A*'\ndensity: 0.5\n", "dense: ['*A*']\ndensity: 0.5\n"):
        config.write_text(text)
        out = tmp_path / str(len(text))
        ended = call("expert", "compress", "one", str(out), f"--config={config}", folder=room)
        assert ended.status == 0, ended.stderr
        resolved = (out / "resolved_config.yaml").read_text()
        assert "dense:\n- '*A*'\n" in resolved


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("density: [0.1, 0.2]", "density is the list [0.1, 0.2], expected one value"),
        ("dense: {a: b}", "dense is {'a': 'b'}, expected a value or a list of values"),
        ("densty: 0.1", "sets densty, which `metro-fast expert compress` does not have; did you m"),
    ],
)
def test_a_file_of_wrong_shape(room: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    line = ("expert", "compress", "one", "out", f"--config={tmp_path / 'run.yaml'}")
    ended = call(*line, folder=room)
    assert ended.status == 1
    assert message in ended.said


def test_defaults_that_a_resolved_config_repeats_are_not_refused(
    room: Path, tmp_path: Path
) -> None:
    first = [*PAIR.split()[:4], f"--out={tmp_path / 'first'}"]
    assert call(*first, folder=room).status == 0
    again = [*PAIR.split()[:4], f"--out={tmp_path / 'again'}"]
    config = f"--config={tmp_path / 'first' / 'resolved_config.yaml'}"
    assert call(*again, config, folder=room).status == 0


def test_only_the_first_rank_says_what_was_written(room: Path, tmp_path: Path) -> None:
    said = []
    for rank in ("0", "1"):
        line = ("expert", "decompress", "one-packed", str(tmp_path / rank))
        ended = call(*line, folder=room, RANK=rank)
        assert ended.status == 0
        said.append(ended.stdout)
    assert said == [f"wrote {tmp_path / '0'}\n", ""]


def test_lists_of_a_run_may_be_one_value_or_several() -> None:
    pytest.importorskip("torch")
    from metro_fast.metro.settings import convert

    assert convert("loss", list[str], "training.include_for_metrics") == ["loss"]
    assert convert("[a, b]", list[str] | str | None, "training.report_to") == ["a", "b"]


@pytest.mark.parametrize(
    "flags",
    [
        "--training.report_to tensorboard wandb",
        "--training.report_to tensorboard --training.report_to=wandb",
        "--training.report-to [tensorboard,wandb]",
    ],
)
def test_a_setting_that_is_a_list_takes_several_values(
    flags: str, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from metro_fast.cli import pretrain as command

    found: list[object] = []
    monkeypatch.setattr(
        command, "pretrain", lambda config: found.append(config.training["report_to"])
    )
    ended = call(*RUN.split(), *flags.split(), "--training.bf16", folder=room)
    assert (ended.status, ended.stderr) == (0, "")
    assert found == [["tensorboard", "wandb"]]


def test_a_search_of_other_files_is_named_by_them(tmp_path: Path) -> None:
    from metro_fast.errors import MetroFastError
    from metro_fast.experts.search.log import SearchLog

    first = {"experts": [["one", 3809462106]], "about": {"examples": "ab" * 32}, "seed": 0}
    SearchLog(tmp_path / "log", first)
    for change, words in (
        ({"experts": [["one", 3569359928]]}, "'one' has other weights now"),
        ({"experts": [["two", 3569359928]]}, "it has 'one' where this one has 'two'"),
        ({"about": {"examples": "cd" * 32}}, "its examples had other contents"),
        ({"seed": 4}, "its seed is 0, that of this search is 4"),
    ):
        with pytest.raises(MetroFastError) as refused:
            SearchLog(tmp_path / "log", {**first, **change})
        assert words in str(refused.value)
        assert not any(number in str(refused.value) for number in ("3809462106", "abab", "cdcd"))

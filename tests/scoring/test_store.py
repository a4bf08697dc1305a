"""The store of answers: what it keeps apart, what it shares, and how it survives."""

import json
import logging
import math
import os
import random
import sqlite3
import struct
import time
import zlib
from dataclasses import replace

import pytest
import torch

import store_cases
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.scoring import PROTOCOLS, AnswerStore, Engine, answer_file, score_choices
from naive_scorer import WORDS, causal_model, causal_tokenizer, make_questions
from store_cases import MODEL, PER_CALL, call_of
from warm_processes import kill, start

QUESTIONS = make_questions(12)
WRITING = replace(PROTOCOLS["generate_match"], max_new_tokens=5)


@pytest.fixture
def store(tmp_path):
    with AnswerStore(tmp_path / "new folder" / "answers.db") as found:
        yield found


@pytest.fixture(scope="module")
def tokenizer():
    return causal_tokenizer(WORDS)


@pytest.fixture
def model(tokenizer):
    return causal_model("rotary", len(tokenizer))


def silenced(model):
    """The model, whose every call is an error from now on."""

    def refuse(*args, **kwargs):
        raise AssertionError("the model was called")

    for module in model.modules():
        module.register_forward_pre_hook(refuse)
    model.forward = refuse
    return model


def scores(outcomes):
    return [outcome.scores for outcome in outcomes]


def asked_alone(questions):
    """Number of different pairs of context and target."""
    return len({(q.input, choice) for q in questions for choice in q.choices})


class TestEngine:
    @pytest.mark.parametrize("name", ["lm_eval", "metro_t0", "mmlu_letters", "mmlu_argmax"])
    def test_the_second_time_no_model_is_called(self, store, model, tokenizer, name):
        protocol = PROTOCOLS[name]
        without = Engine(model, tokenizer).answer(QUESTIONS, protocol)
        first = Engine(model, tokenizer, store=store).answer(QUESTIONS, protocol)
        assert first == without
        assert store.hits == 0
        assert store.misses == len(store) > 0
        training = model.training
        again = Engine(silenced(model), tokenizer, store=store).answer(QUESTIONS[::-1], protocol)
        assert again[::-1] == first  # the same bits
        assert store.hits == store.misses == len(store)
        assert model.training == training

    def test_an_encoder_decoder(self, store, tiny_t5, tiny_tokenizer):
        protocol = PROTOCOLS["t0"]
        without = Engine(tiny_t5, tiny_tokenizer).answer(QUESTIONS, protocol)
        for _ in range(2):
            assert Engine(tiny_t5, tiny_tokenizer, store=store).answer(QUESTIONS, protocol) == (
                without
            )
            silenced(tiny_t5)
        assert store.hits == store.misses == len(store)

    def test_only_what_is_missing_is_run(self, store, model, tokenizer):
        protocol = PROTOCOLS["lm_eval"]
        engine = Engine(model, tokenizer, store=store)
        engine.answer(QUESTIONS[:5], protocol)
        fewer = [q._replace(choices=q.choices[:1]) for q in QUESTIONS[5:8]]
        engine.answer(fewer, protocol)
        read: list[int] = []
        model.register_forward_hook(
            lambda module, args, kwargs, output: read.append(len(kwargs["input_ids"])),
            with_kwargs=True,
        )
        store.hits = store.misses = 0
        outcomes = engine.answer(QUESTIONS, protocol)
        assert store.hits == asked_alone(QUESTIONS[:5]) + len(fewer)
        assert store.hits + store.misses == asked_alone(QUESTIONS) == len(store)
        assert read[0] <= len(QUESTIONS) - 5  # the contexts of the first call
        expected = scores(Engine(model, tokenizer).answer(QUESTIONS, protocol))
        assert scores(outcomes) == [pytest.approx(row, abs=1e-4) for row in expected]

    def test_a_call_of_the_engine_is_one_transaction(self, store, model, tokenizer, monkeypatch):
        sizes = []
        add = answer_file.AnswerFile.add
        monkeypatch.setattr(
            answer_file.AnswerFile, "add",
            lambda self, rows, replaced: (sizes.append(len(rows)), add(self, rows, replaced)),
        )  # fmt: skip
        engine = Engine(model, tokenizer, store=store, max_batch_tokens=1)
        engine.answer(QUESTIONS, PROTOCOLS["lm_eval"])
        assert sizes == [len(store)]

    def test_protocols_share_the_ids_that_they_have_in_common(self, store, model, tokenizer):
        engine = Engine(model, tokenizer, store=store)
        engine.answer(QUESTIONS, PROTOCOLS["lm_eval"])
        count = len(store)
        # Other normalizations of the same sums.
        for normalization in ("mean", "char", "byte"):
            protocol = replace(PROTOCOLS["lm_eval"], name="x", normalization=normalization)
            expected = scores(Engine(model, tokenizer).answer(QUESTIONS, protocol))
            assert scores(engine.answer(QUESTIONS, protocol)) == expected
        assert len(store) == store.misses == count
        pmi = replace(PROTOCOLS["lm_eval"], normalization="pmi")
        engine.answer(QUESTIONS, pmi)
        choices = {choice for question in QUESTIONS for choice in question.choices}
        assert len(store) == count + len(choices)  # those after the start token
        # Other ids: an end token after the choices, and no start token before the inputs.
        for changes in ({"target_end": True}, {"special_tokens": False}, {"letters": True}):
            before = store.hits
            protocol = replace(PROTOCOLS["lm_eval"], **changes)
            expected = scores(Engine(model, tokenizer).answer(QUESTIONS, protocol))
            found = scores(engine.answer(QUESTIONS, protocol))
            assert found == [pytest.approx(row, abs=1e-4) for row in expected]
            assert store.hits == before
        # All the choices of mmlu_argmax are the first tokens of letters, which is the same here.
        before = store.misses
        engine.answer(QUESTIONS, replace(PROTOCOLS["lm_eval"], letters=True))
        assert store.misses == before

    def test_a_token_does_not_move_between_context_and_target(self, store):
        store.add_scores(MODEL, {(1, 2): {(3,): -1.0}, (): {(1,): -2.0}})
        wanted = {(1,): [(2, 3)], (1, 2, 3): [()], (): [(1, 2, 3)], (1, 2): [(3,), (3, 0)]}
        assert store.scores(MODEL, wanted) == {(1, 2): {(3,): -1.0}}
        assert store.scores("cd" * 32, wanted) == {}

    def test_another_model_is_asked_itself(self, store, model, tokenizer):
        protocol = PROTOCOLS["lm_eval"]
        engine = Engine(model, tokenizer, store=store)
        first = scores(engine.answer(QUESTIONS, protocol))
        values = model.lm_head.weight.data.clone()
        model.lm_head.weight.data[5] += 0.5  # counted by no version of the tensor
        expected = scores(Engine(model, tokenizer).answer(QUESTIONS, protocol))
        assert scores(engine.answer(QUESTIONS, protocol)) == expected != first
        assert store.hits == 0
        model.lm_head.weight.data = values
        assert scores(Engine(silenced(model), tokenizer, store=store).answer(QUESTIONS, protocol)
                      ) == first  # fmt: skip

    def test_autocast_is_another_model(self, store, model, tokenizer):
        engine = Engine(model, tokenizer, store=store)
        first = scores(engine.answer(QUESTIONS, PROTOCOLS["lm_eval"]))
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                second = scores(engine.answer(QUESTIONS, PROTOCOLS["lm_eval"]))
        assert second != first
        assert store.hits == store.misses / 2 == asked_alone(QUESTIONS)

    def test_score_choices_takes_a_store(self, store, model, tokenizer):
        inputs, choices = [q.input for q in QUESTIONS], [q.choices for q in QUESTIONS]
        first = score_choices(model, tokenizer, inputs, choices, preset="lm_eval", store=store)
        assert first == score_choices(model, tokenizer, inputs, choices, preset="lm_eval")
        silenced(model)
        again = score_choices(model, tokenizer, inputs, choices, preset="lm_eval", store=store)
        assert again == first

    def test_experts_and_their_scalings_are_kept_apart(self, store, model, tokenizer):
        peft = pytest.importorskip("peft")
        protocol = PROTOCOLS["lm_eval"]
        base = scores(Engine(model, tokenizer, store=store).answer(QUESTIONS, protocol))
        config = peft.LoraConfig(
            r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False,
            task_type="CAUSAL_LM",
        )  # fmt: skip
        torch.manual_seed(0)
        expert = peft.get_peft_model(model, config, "one").eval()
        expert.add_adapter("two", config)
        engine = Engine(expert, tokenizer, store=store)
        seen = [base]
        for name, factor in (("one", 1), ("two", 1), ("one", 3)):
            expert.set_adapter(name)
            for module in expert.modules():
                if isinstance(getattr(module, "scaling", None), dict):
                    module.scaling[name] *= factor
            expected = scores(Engine(expert, tokenizer).answer(QUESTIONS, protocol))
            seen.append(scores(engine.answer(QUESTIONS, protocol)))
            assert seen[-1] == expected
            assert store.hits == 0
        assert len(set(map(str, seen))) == 4
        with expert.disable_adapter():
            assert scores(engine.answer(QUESTIONS, protocol)) == base
        assert store.hits == asked_alone(QUESTIONS)

    def test_generation(self, store, model, tokenizer):
        engine = Engine(model, tokenizer, store=store)
        first = engine.answer(QUESTIONS, WRITING)
        assert first == Engine(model, tokenizer).answer(QUESTIONS, WRITING)
        count = len({question.input for question in QUESTIONS})
        assert (store.hits, store.misses, len(store)) == (0, count, count)
        stop = next(o.text.split()[1] for o in first if len(o.text.split()) > 1)
        for protocol in (
            replace(WRITING, max_new_tokens=2),
            replace(WRITING, stop=(stop,)),
            replace(WRITING, stop=(stop, "never")),
        ):
            found = engine.answer(QUESTIONS, protocol)
            assert found == Engine(model, tokenizer).answer(QUESTIONS, protocol)
            assert found != first
            assert store.hits == 0
        model.generation_config.eos_token_id = [1, 7]
        engine.answer(QUESTIONS, WRITING)
        assert store.hits == 0
        model.generation_config.eos_token_id = 1
        # Other labels are looked for in the same texts.
        others = [question._replace(choices=["yes", "no"]) for question in QUESTIONS]
        again = Engine(silenced(model), tokenizer, store=store).answer(others, WRITING)
        assert [o.text for o in again] == [o.text for o in first]
        assert store.hits == count

    def test_another_tokenizer_writes_other_texts(self, store, model, tokenizer):
        protocol = replace(WRITING, special_tokens=False)
        (first,) = Engine(model, tokenizer, store=store).answer(QUESTIONS[:1], protocol)
        other = causal_tokenizer([*WORDS[:-2], WORDS[-1], WORDS[-2]])
        (second,) = Engine(model, other, store=store).answer(QUESTIONS[:1], protocol)
        assert (second,) == tuple(Engine(model, other).answer(QUESTIONS[:1], protocol))
        assert store.hits == 0
        assert first.text

    def test_nan_is_not_kept(self, store, model, tokenizer):
        model.lm_head.weight.data.fill_(math.nan)
        with pytest.raises(MetroFastError, match="NaN"):
            Engine(model, tokenizer, store=store).answer(QUESTIONS, PROTOCOLS["lm_eval"])
        assert len(store) == 0
        with pytest.raises(MetroFastError, match=r"\(2,\) after \(1,\) is NaN"):
            store.add_scores(MODEL, {(1,): {(3,): -1.0, (2,): math.nan}})
        assert len(store) == 0

    def test_a_path_is_not_a_store(self, model, tokenizer, tmp_path):
        with pytest.raises(TypeError, match=r"store is a str; give AnswerStore\(path\)"):
            Engine(model, tokenizer, store=str(tmp_path / "answers.db"))


class TestValues:
    def test_every_bit_of_a_value_comes_back(self, store):
        draw = random.Random(0)
        values = [0.0, -0.0, -math.inf, math.inf, -1.0, 5e-324, -1.7976931348623157e308, -3]
        values += [struct.unpack("<d", draw.randbytes(8))[0] for _ in range(2000)]
        values = [value for value in values if not math.isnan(value)]
        store.add_scores(MODEL, {(i,): {(i,): value} for i, value in enumerate(values)})
        found = store.scores(MODEL, {(i,): [(i,)] for i in range(len(values))})
        assert [struct.pack("<d", found[i,][i,]) for i in range(len(values))] == [
            struct.pack("<d", value) for value in values
        ]

    def test_every_text_comes_back(self, store):
        texts = {(0,): "", (1,): "naïve \x00 \n 猫", (2,): "x" * 100_000, (3,): "\ud800"}
        store.add_texts(MODEL, texts, {"a": 1})
        assert store.texts(MODEL, texts, {"a": 1}) == texts
        assert store.texts(MODEL, texts, {"a": 2}) == {}
        assert store.scores(MODEL, {context: [(), context] for context in texts}) == {}

    def test_the_first_answer_stays(self, store):
        store.add_scores(MODEL, {(1,): {(2,): -1.0}})
        store.add_scores(MODEL, {(1,): {(2,): -1.5, (3,): -2.0}})
        assert store.scores(MODEL, {(1,): [(2,), (3,)]}) == {(1,): {(2,): -1.0, (3,): -2.0}}

    def test_more_keys_than_one_query_takes(self, store):
        sums = {(i,): {(j,): -i - j / 8 for j in range(50)} for i in range(100)}
        store.add_scores(MODEL, sums)
        assert store.scores(MODEL, sums) == sums
        assert (store.hits, store.misses, len(store)) == (5000, 0, 5000)

    def test_bytes_per_choice(self, store):
        """16 of the key, 12 of the value, 5 of SQLite, and pages that are about 3/4 full."""
        draw = random.Random(0)
        for call in range(50):
            store.add_scores(
                MODEL, {(call, i): {(k,): draw.random() for k in range(4)} for i in range(100)}
            )
        assert store.path.stat().st_size / len(store) < 56

    def test_its_picture(self, tmp_path):
        store = AnswerStore(tmp_path / "x.db")
        assert store
        store.scores(MODEL, {(1,): [(2,)]})
        assert repr(store) == f"<AnswerStore {tmp_path / 'x.db'}; 0 hits, 1 miss>"
        store.close()
        store.close()
        assert repr(store) == f"<AnswerStore {tmp_path / 'x.db'}, closed; 0 hits, 1 miss>"
        with pytest.raises(MetroFastError, match="is closed: open it again"):
            store.scores(MODEL, {(1,): [(2,)]})
        with pytest.raises(MetroFastError, match="is closed"):
            len(store)

    def test_a_name_that_sqlite_would_not_take_for_a_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with AnswerStore(":memory:") as store:
            store.add_scores(MODEL, {(1,): {(2,): -1.0}})
        assert (tmp_path / ":memory:").stat().st_size > 0


def whole(data: bytes, key: bytes) -> bytes:
    return data + zlib.crc32(key + data).to_bytes(4, "little")


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda key, value: b"",
            lambda key, value: value[:-1],
            lambda key, value: value + b"\x00",
            lambda key, value: bytes([value[0] ^ 1]) + value[1:],
            lambda key, value: value[:-1] + bytes([value[-1] ^ 128]),
            lambda key, value: whole(b"1234567", key),
            lambda key, value: whole(struct.pack("<d", math.nan), key),
            lambda key, value: whole(struct.pack("<d", -1.0), bytes(16)),  # that of another key
            lambda key, value: "text",
            lambda key, value: -1.0,
            lambda key, value: 5,
        ],
    )
    def test_a_damaged_value_is_computed_again(self, tmp_path, model, tokenizer, caplog, damage):
        path = tmp_path / "answers.db"
        protocol = PROTOCOLS["lm_eval"]
        with AnswerStore(path) as store:
            first = scores(Engine(model, tokenizer, store=store).answer(QUESTIONS, protocol))
        with sqlite3.connect(path) as connection:
            rows = connection.execute("SELECT key, value FROM answers LIMIT 3").fetchall()
            connection.executemany(
                "UPDATE answers SET value = ? WHERE key = ?",
                [(damage(key, value), key) for key, value in rows],
            )
        connection.close()
        with AnswerStore(path) as store, caplog.at_level(logging.WARNING):
            engine = Engine(model, tokenizer, store=store, max_batch_tokens=1)
            again = scores(engine.answer(QUESTIONS, protocol))
            assert again == [pytest.approx(row, abs=1e-4) for row in first]
            assert f"{path}: 3 answers are damaged, among them {rows[0][0].hex()}" in caplog.text
            assert store.misses == 3
            caplog.clear()
            assert scores(engine.answer(QUESTIONS, protocol)) == again
            assert store.misses == 3
            assert caplog.text == ""

    def test_a_damaged_text_is_written_again(self, tmp_path, model, tokenizer, caplog):
        path = tmp_path / "answers.db"
        with AnswerStore(path) as store:
            first = Engine(model, tokenizer, store=store).answer(QUESTIONS, WRITING)
        with sqlite3.connect(path) as connection:
            ((key, value),) = connection.execute("SELECT * FROM answers LIMIT 1").fetchall()
            damaged = [whole(b"\xff\xfe", key), value[1:]]
        connection.close()
        for data in damaged:
            with sqlite3.connect(path) as connection:
                connection.execute("UPDATE answers SET value = ? WHERE key = ?", (data, key))
            connection.close()
            with AnswerStore(path) as store:
                assert Engine(model, tokenizer, store=store).answer(QUESTIONS, WRITING) == first
                assert store.misses == 1
        assert caplog.text.count(key.hex()) == 2

    @pytest.mark.parametrize(
        "data", [b"{}", b"not a database" * 100, bytes(4096), b"SQLite format 3\x00" + bytes(100)]
    )
    def test_a_file_of_another_kind_is_refused_and_left_as_it_is(self, tmp_path, data):
        path = tmp_path / "results.json"
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"results\.json"):
            AnswerStore(path)
        assert path.read_bytes() == data

    def test_a_database_of_another_program_is_refused(self, tmp_path):
        for name, statement in (
            ("tables", "CREATE TABLE answers (key BLOB, value BLOB)"),
            ("version", "PRAGMA user_version = 1"),
            ("application", "PRAGMA application_id = 7"),
        ):
            with sqlite3.connect(tmp_path / name) as connection:
                connection.execute(statement)
            connection.close()
            before = (tmp_path / name).read_bytes()
            with pytest.raises(FormatError, match=f"{name} is a database of another program"):
                AnswerStore(tmp_path / name)
            assert (tmp_path / name).read_bytes() == before

    def test_a_newer_version_is_refused(self, store):
        with sqlite3.connect(store.path) as connection:
            connection.execute("PRAGMA user_version = 2")
        connection.close()
        with pytest.raises(FormatError, match="has version 2 of the store, this program reads 1"):
            AnswerStore(store.path)

    def test_a_damaged_file_is_named(self, tmp_path):
        path = tmp_path / "answers.db"
        store_cases.add_calls(path, range(30))
        data = bytearray(path.read_bytes())
        data[4096:] = os.urandom(len(data) - 4096)
        path.write_bytes(data)
        with (
            AnswerStore(path) as store,
            pytest.raises(FormatError, match=r"answers\.db is damaged .*: remove it"),
        ):
            store.scores(MODEL, call_of(3))

    def test_a_cut_file_is_named(self, tmp_path):
        path = tmp_path / "answers.db"
        store_cases.add_calls(path, range(30))
        os.truncate(path, 4096 * 3)
        with (
            pytest.raises(FormatError, match=r"answers\.db is damaged .*: remove it"),
            AnswerStore(path) as store,
        ):
            store.scores(MODEL, {c: s for n in range(30) for c, s in call_of(n).items()})


class TestPlaces:
    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            AnswerStore(tmp_path / "file" / "answers.db")
        with pytest.raises(OSError, match=r"cannot open the store .*: choose a file in a folder"):
            AnswerStore(tmp_path)  # a folder itself
        with pytest.raises(OSError, match=r"/proc/answers\.db"):
            AnswerStore("/proc/answers.db")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    @pytest.mark.parametrize("there", [False, True])
    def test_a_folder_of_another_user(self, tmp_path, there):
        if there:
            AnswerStore(tmp_path / "answers.db").close()
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(OSError, match=r"cannot open the store .*: choose a file in a"):
                AnswerStore(tmp_path / "answers.db")
        finally:
            tmp_path.chmod(0o700)

    def test_a_full_disk(self, store):
        store.add_scores(MODEL, call_of(0))
        limit = store._file._connection.execute("PRAGMA page_count").fetchone()[0] + 1
        store._file._connection.execute(f"PRAGMA max_page_count = {limit}")
        with pytest.raises(OSError, match=r"full.*make room on the disk"):
            store.add_scores(MODEL, {c: s for n in range(1, 50) for c, s in call_of(n).items()})
        assert len(store) == PER_CALL  # all or none
        assert store.scores(MODEL, call_of(0)) == call_of(0)

    def test_a_lock_that_is_never_released(self, store, monkeypatch):
        monkeypatch.setattr(answer_file, "_WAIT_SECONDS", 0.1)
        with AnswerStore(store.path) as other, store._file._transaction():
            with pytest.raises(OSError, match="another process has locked it"):
                other.add_scores(MODEL, call_of(0))
            assert other.scores(MODEL, call_of(0)) == {}  # readers do not wait


class TestProcesses:
    def test_two_processes_write_at_once(self, tmp_path):
        path = tmp_path / "answers.db"
        processes = [
            start(store_cases.add_calls, path, numbers, errors=tmp_path / "errors.log")
            for numbers in (range(0, 20), range(10, 30))
        ]
        for process in processes:
            process.join(60)
            assert process.exitcode == 0, (tmp_path / "errors.log").read_text()
        with AnswerStore(path) as store:
            assert len(store) == 30 * PER_CALL
            wanted = {c: s for number in range(30) for c, s in call_of(number).items()}
            assert store.scores(MODEL, wanted) == wanted

    def test_a_killed_process_leaves_whole_calls(self, tmp_path):
        path, draw = tmp_path / "answers.db", random.Random(0)
        for attempt in range(10):
            begun = tmp_path / str(attempt)
            process = start(
                store_cases.add_until_killed, path, begun, errors=tmp_path / "errors.log"
            )
            deadline = time.monotonic() + 60
            while not begun.exists():
                assert process.is_alive(), (tmp_path / "errors.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.03))
            kill(process)
            with AnswerStore(path) as store:
                assert len(store) % PER_CALL == 0
                wanted = {
                    context: sums
                    for number in range(len(store) // PER_CALL)
                    for context, sums in call_of(number).items()
                }
                assert store.scores(MODEL, wanted) == wanted
        assert wanted  # some call was whole

    def test_a_write_that_was_cut_short_is_undone(self, tmp_path):
        """The files of a process that died between the journal and the end of its write."""
        path = tmp_path / "answers.db"
        store_cases.add_calls(path, range(3))
        copies = tmp_path / "copies"
        copies.mkdir()
        with AnswerStore(path) as store:
            connection = store._file._connection
            connection.execute("PRAGMA cache_size = 1")  # pages are written before the commit
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO answers VALUES (?, ?)",
                [(os.urandom(16), bytes(12)) for _ in range(2000)],
            )
            for file in tmp_path.glob("answers.db*"):
                (copies / file.name).write_bytes(file.read_bytes())
            connection.execute("ROLLBACK")
        assert len(list(copies.iterdir())) == 2
        assert (copies / path.name).stat().st_size > path.stat().st_size
        with AnswerStore(copies / path.name) as store:
            assert len(store) == 3 * PER_CALL
            assert store.scores(MODEL, call_of(2)) == call_of(2)

    def test_another_process_finds_the_answers(self, tmp_path):
        pytest.importorskip("peft")
        path, log = tmp_path / "answers.db", tmp_path / "log"
        model, tokenizer = store_cases.adapted_model()
        questions = make_questions(8)
        with AnswerStore(path) as store:
            outcomes = Engine(model, tokenizer, store=store).answer(questions, PROTOCOLS["lm_eval"])
        process = start(store_cases.answer_all, path, log, errors=tmp_path / "errors.log")
        process.join(60)
        assert process.exitcode == 0, (tmp_path / "errors.log").read_text()
        hits, misses, found = log.read_text().split(" ", 2)
        assert (int(hits), int(misses)) == (asked_alone(questions), 0)
        assert json.loads(found.replace("(", "[").replace(")", "]")) == list(
            map(list, scores(outcomes))
        )

    def test_a_fork_is_refused(self, store, monkeypatch):
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(MetroFastError, match="opened by another process: open it in each"):
            store.scores(MODEL, call_of(0))
        with pytest.raises(MetroFastError, match="opened by another process"):
            store.add_scores(MODEL, call_of(0))

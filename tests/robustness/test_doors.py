"""Logs of Inspect and HELM, read into cells."""

import copy
import json
import zipfile
import zlib

import pytest

from metro_fast.errors import FormatError
from metro_fast.prompts import Instruction
from metro_fast.robustness import Report, read_helm, read_inspect


def inspect_sample(number=0, answer="B", value="C", **changes):
    """One sample as Inspect 0.3 writes it (log/_log.py, class EvalSample)."""
    asked = "Answer the following multiple choice question.\n\nIs 3 odd?\n\nA) no\nB) yes"
    return {
        "id": number, "epoch": 1, "input": "Is 3 odd?", "choices": ["no", "yes"], "target": "B",
        "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": asked},
            {"role": "assistant", "content": f"ANSWER: {answer}"},
        ],
        "output": {"model": "m", "completion": f"ANSWER: {answer}", "choices": []},
        "scores": {"choice": {"value": value, "answer": answer, "explanation": "..."}},
        "metadata": {"level": 2},
    } | changes  # fmt: skip


def inspect_log(samples):
    run = {"task": "odd", "model": "openai/x", "dataset": {"name": "odd"}}
    return {"version": 2, "status": "success", "eval": run, "samples": samples}


def save_inspect(path, samples, method=zipfile.ZIP_DEFLATED):
    log = inspect_log(samples)
    if path.suffix == ".json":
        path.write_text(json.dumps(log))
        return path
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("_journal/start.json", "{}")
        for sample in log.pop("samples"):
            archive.writestr(
                f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample)
            )
        archive.writestr("header.json", json.dumps(log))
    return path


def pack_by_zstandard(path, damage=False):
    """The same archive as Inspect packs it today, which zipfile cannot write before Python 3.14."""
    pyarrow = pytest.importorskip("pyarrow")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            sink = pyarrow.BufferOutputStream()
            with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
                stream.write(content)
            archive.writestr(name, sink.getvalue().to_pybytes())
            info = archive.getinfo(name)
            info.compress_type, info.file_size = 93, len(content)
            info.CRC = zlib.crc32(content) + damage
    return path


class TestInspect:
    @pytest.mark.parametrize("name", ["log.json", "log.eval", "zstandard.eval"])
    def test_choices_become_a_cell(self, tmp_path, name):
        parts = [{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "B"}]
        samples = [
            inspect_sample(0), inspect_sample(1, "A", "I"),
            # Without a letter of the scorer, the text that the model wrote counts.
            inspect_sample(2, scores={}, output={"choices": [{"message": {"content": "Yes."}}]}),
            inspect_sample(3, output={"choices": [{"message": {"content": parts}}]}),
        ]  # fmt: skip
        path = save_inspect(tmp_path / name, samples)
        if name == "zstandard.eval":
            pack_by_zstandard(path)
        found = read_inspect(path)
        assert str(found.report).endswith("4 of 4 taken")
        cell = found.cell.to_cell(instruction=Instruction("own", "parity", "{{ input }}"))
        assert (cell.record.task, cell.record.model_name, cell.record.preset) == (
            "odd", "openai/x", "inspect",
        )  # fmt: skip
        assert cell.correct == [True, False, True, True]
        assert cell.items[0].fields == {"level": 2, "input": "Is 3 odd?"}
        assert cell.prompts[0].input.endswith("A) no\nB) yes")
        assert found.cell.outcomes[3].text == "B"
        report = Report([cell])
        assert report.summary("odd").mean == 0.75
        report.save(tmp_path / "report")
        assert Report.load(tmp_path / "report").cells == (cell,)

    def test_an_answer_without_a_choice_is_wrong_and_counted(self, tmp_path):
        silent = inspect_sample(1, "", "I", output={"completion": "I cannot say."})
        found = read_inspect(save_inspect(tmp_path / "log.json", [inspect_sample(0), silent]))
        assert [outcome.prediction for outcome in found.cell.outcomes] == [1, -1]
        cell = found.cell.to_cell()
        assert (cell.correct, cell.unread, cell.value) == ([True, False], 1, 0.5)

    def test_rejects_are_counted(self, tmp_path):
        samples = [
            inspect_sample(0), inspect_sample(0, epoch=2), inspect_sample(1, value="I"),
            inspect_sample(2, target=["A", "B"]), inspect_sample(3, target="Z"),
            inspect_sample(4, error={"message": "time"}), inspect_sample(5, output=None),
            inspect_sample(6, choices=[1, 2]), {"id": 7}, inspect_sample(8, scores={"choice": 1}),
        ]  # fmt: skip
        found = read_inspect(save_inspect(tmp_path / "log.json", [*samples, "x"]))
        assert found.report.taken == 1
        assert found.report.by_reason == {
            "a later epoch": 1, "another verdict": 1, "several answers": 1, "no output": 1,
            "no answer among the choices": 1, "ended in an error": 1, "not an item": 1,
            "no epoch": 1, "no choice": 1, "not an object": 1,
        }  # fmt: skip

    def test_free_answers(self, tmp_path):
        free = inspect_sample(0, choices=None, target=["yes"], scores={"match": {"value": 1.0}})
        cell = read_inspect(save_inspect(tmp_path / "log.json", [free])).cell
        assert (cell.items[0].target, cell.correct) == ("yes", (True,))

    @pytest.mark.parametrize(
        "content", [b"", b"[]", b"{}", b"PK\x05\x06" + b"\0" * 18, b'{"eval": {"task": 1}}',
                    b'{"eval": {"task": "a", "model": "b"}, "samples": 5}',
                    b'{"eval": {"task": "a", "model": "b"}, "samples": []}'],
    )  # fmt: skip
    def test_hostile_files(self, tmp_path, content):
        path = tmp_path / "log.eval"
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"log\.eval"):
            read_inspect(path)

    def test_hostile_archives(self, tmp_path):
        path = save_inspect(tmp_path / "log.eval", [inspect_sample(0)])
        damaged = bytearray(path.read_bytes())
        place = damaged.index(b"samples/0_epoch_1.json") + 40
        damaged[place : place + 20] = b"\xff" * 20
        (tmp_path / "damaged.eval").write_bytes(damaged)
        with pytest.raises(FormatError, match="cannot be unpacked"):
            read_inspect(tmp_path / "damaged.eval")
        with zipfile.ZipFile(tmp_path / "bomb.eval", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.json", b" " * (65 * 2**20))
        with pytest.raises(FormatError, match="unpacks to 68157440 bytes"):
            read_inspect(tmp_path / "bomb.eval")
        with pytest.raises(FormatError, match="its checksum is wrong"):
            read_inspect(pack_by_zstandard(path, damage=True))


def helm_request(number=0, text=" B", **changes):
    """One request as HELM 0.5 writes it (benchmark/adaptation/request_state.py)."""
    return {
        "instance": {
            "id": f"id{number}", "split": "test", "input": {"text": "Is 3 odd?"},
            "references": [{"output": {"text": "no"}, "tags": []},
                           {"output": {"text": "yes"}, "tags": ["correct"]}],
        },
        "train_trial_index": 0, "output_mapping": {"A": "no", "B": "yes"},
        "request": {"model": "m", "prompt": "Question: Is 3 odd?\nA. no\nB. yes\nAnswer:"},
        "result": {"success": True, "completions": [{"text": text, "logprob": 0, "tokens": []}]},
    } | changes  # fmt: skip


def helm_scored(place, mode, tokens, number=0):
    request = helm_request(number, reference_index=place, request_mode=mode, output_mapping=None)
    request["result"]["completions"][0]["tokens"] = [
        {"text": text, "logprob": logprob} for text, logprob in tokens
    ]
    return request


def save_helm(folder, requests, method="multiple_choice_joint"):
    folder.mkdir(exist_ok=True)
    path = folder / "scenario_state.json"
    spec = {"method": method, "model": "openai/x"}
    path.write_text(json.dumps({"adapter_spec": spec, "request_states": requests}))
    return path


class TestHelm:
    def test_letters_become_a_cell(self, tmp_path):
        requests = [helm_request(0), helm_request(1, " A")]
        found = read_helm(save_helm(tmp_path / "odd:part=a,model=x", requests))
        cell = found.cell.to_cell()
        assert (cell.record.task, cell.record.model_name, cell.record.preset) == (
            "odd", "openai/x", "helm",
        )  # fmt: skip
        assert cell.correct == [True, False]
        assert cell.prompts[0].input.startswith("Question: Is 3 odd?")

    @pytest.mark.parametrize("calibrated", [False, True])
    def test_scores_are_those_of_helm(self, tmp_path, calibrated):
        question = [("Is", -9.0), (" 3", -9.0), (" odd?", -9.0)]
        requests = [
            helm_scored(0, "original", [*question, (" no", -2.0)]),
            helm_scored(1, "original", [*question, (" y", -1.0), ("es", -0.5)]),
        ]
        if calibrated:
            requests += [
                helm_scored(0, "calibration", [("Answer:", -9.0), (" no", -0.25)]),
                helm_scored(1, "calibration", [("Answer:", -9.0), (" y", -1.0), ("es", -1.0)]),
            ]
        method = f"multiple_choice_separate_{'calibrated' if calibrated else 'original'}"
        found = read_helm(save_helm(tmp_path / "odd", requests, method))
        assert found.cell.outcomes[0].scores == ((-1.75, 0.5) if calibrated else (-2.0, -0.75))
        del requests[-1]
        requests += [r | {"instance": r["instance"] | {"id": "whole"}} for r in requests[:1]]
        with pytest.raises(FormatError, match="lacks reference 1"):
            read_helm(save_helm(tmp_path / "odd", requests, method))

    def test_rejects_are_counted(self, tmp_path):
        def instance(number, **changes):
            request = copy.deepcopy(helm_request(number))
            request["instance"] |= changes
            return request

        failed = {"success": False, "completions": [], "error": "time"}
        requests = [
            helm_request(0), helm_request(0), instance(1, perturbation={"name": "typos"}),
            instance(2, split="valid"), helm_request(3, train_trial_index=1),
            helm_request(4, result=None), helm_request(5, result=failed),
            instance(6, references=[]), 8, instance(9, id=None),
        ]  # fmt: skip
        found = read_helm(save_helm(tmp_path / "odd", requests))
        assert found.report.taken == 1
        assert found.report.by_reason == {
            "no result": 2, "perturbed": 1, "another split": 1, "another trial": 1,
            "not an object": 1, "no id": 1, "id given twice": 1, "several answers": 1,
        }  # fmt: skip

    def test_written_answers(self, tmp_path):
        path = save_helm(tmp_path / "odd", [helm_request(0, " Yes!")], "generation")
        cell = read_helm(path).cell
        assert (cell.items[0].target, cell.outcomes[0].text) == ("yes", " Yes!")
        path = save_helm(tmp_path / "odd", [helm_request(0, " Q")])
        assert read_helm(path).cell.outcomes[0].prediction == -1

    @pytest.mark.parametrize(
        "content", [b"", b"[]", b"{}", b'{"adapter_spec": {"method": "a", "model": "b"}}',
                    b'{"adapter_spec": {"method": "a", "model": "b"}, "request_states": []}'],
    )  # fmt: skip
    def test_hostile_files(self, tmp_path, content):
        path = tmp_path / "scenario_state.json"
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"scenario_state\.json"):
            read_helm(path)

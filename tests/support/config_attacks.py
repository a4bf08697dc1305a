"""Hostile configurations of adapters, and what each door makes of them.

`python tests/support/config_attacks.py` tries all of them at all doors and prints what is wrong;
the suite tries a part of them.
"""

import itertools
import json
import resource
import shutil
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NamedTuple

import peft
import torch

from cost import measured
from front_door import call
from metro_fast import FormatError, MetroFastError
from metro_fast.experts import (
    Expert,
    ExpertPool,
    add_to_base,
    compress,
    decompress,
    export,
    load_expert,
    load_experts,
    merge,
    similarity,
)
from metro_fast.experts.adapters.peft_folder import CONFIG, EXPERT_FILE, WEIGHTS
from metro_fast.experts.plain.shelf import Shelf
from metro_fast.experts.plain.vllm_resolver import expand
from model_state import ModelState

MOST_SECONDS, MOST_MEGABYTES = 1.0, 100
_GIVE_UP = 3.0
"""Seconds after which an attack that hangs is ended and counted."""

_GENERIC: dict[str, Any] = {
    "null": None,
    "true": True,
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "2^40": 2**40,
    "2^63": 2**63,
    "10^400": 10**400,
    "nan": float("nan"),
    "infinity": float("inf"),
    "1e308": 1e308,
    "empty text": "",
    "text": "x",
    "control characters": "\x1b[2J\x00\n",
    "surrogate": "\ud800",
    "a megabyte": "x" * 10**6,
    "[]": [],
    "[null]": [None],
    "[text]": ["q"],
    "[2^40]": [2**40],
    "[[0, 2^40]]": [[0, 2**40]],
    "{}": {},
    "{text: text}": {"q": "x"},
    "{text: 2^40}": {"q": 2**40},
    "{q: {}}": {"q": {}},
    "nested": [[[[[[[[[[1]]]]]]]]]],
}
_PATTERNS = {
    "nested repeats": "(.+)+x",
    "nested repeats, lazy": "(?:.*?)*?x",
    "overlapping choice": "(.|.|[a-z])*x",
    "repeats in a row": ".*" * 20 + "x",
    "repeats in a row with classes": r"\w*[a-z.0-9]*" * 8 + "#",
    "counted repeats": "(.{0,30}){0,30}x",
    "deep counted repeats": "(((((.{0,9}){0,9}){0,9}){0,9}){0,9})x",
    "huge counts": "(?:(?:(?:a{0,65000}){0,65000}){0,65000})b",
    "a count beyond all": "a{99999999999999999999}",
    "look ahead": "(?=(.+)+x).*",
    "look behind": "(?<=(a|b)(a|b))(.+)+x",
    "back reference": r"(.*)\1\1\1(.*)\2x",
    "condition": "(a)?(?(1)(.+)+|.*)x",
    "possessive": "(.++)+x",
    "atomic": "(?>(.+)+x)",
    "unfinished": "(",
    "unfinished class": "[",
    "flags": "(?i)q",
    "deep": "(" * 3000 + ")" * 3000,
    "wide": "|".join("ab" * 3 for _ in range(30000)),
    "no end": "q\\",
    "comment": "(?#",
}
_PLACES: dict[str, Callable[[str], Any]] = {
    "target_modules": lambda p: p,
    "exclude_modules": lambda p: p,
    "rank_pattern": lambda p: {p: 4},
    "alpha_pattern": lambda p: {p: 4},
    "layers_pattern": lambda p: p,
    "modules_to_save": lambda p: [p],
    "feedforward_modules": lambda p: p,
}
_SPECIFIC: dict[str, list[Any]] = {
    "peft_type": ["IA3", "LOHA", "ADALORA", "OFT", "PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING"],
    "init_lora_weights": [
        *("pissa", "pissa_niter_999999999", "PiSSA", "olora", "loftq", "eva", "corda", "gaussian"),
        *("Gaussian", "orthogonal", "mica", "lora_ga", "unknown", "EVA"),
    ],
    "auto_mapping": [{"base_model_class": "X", "parent_library": "antigravity"}],
    "megatron_config": [{"hidden_size": 1}],
    "megatron_core": ["antigravity"],
    "layer_replication": [[[0, 1], [0, 10**9]], [[1, 0]], [[-1, 1]], [[0, 1]] * 100_000, [[0]]],
    "trainable_token_indices": [{"q": [2**40]}, {"q": [-1]}, {"": [0]}, list(range(10**5)), [1.5]],
    "target_modules": ["all-linear", [str(n) for n in range(10**6)], [""], ["q", 1], "^q"],
    "exclude_modules": [[str(n) for n in range(10**6)], ["q", "v"], ".*"],
    "rank_pattern": [{f"m{n}": 4 for n in range(10**5)}, {"q": 2**40}, {"q": 0}, {"q": True}],
    "alpha_pattern": [{f"m{n}": 4 for n in range(10**5)}, {"q": 10**400}, {"q": float("nan")}],
    "layers_to_transform": [[0] * 10**6, [True], "0"],
    "bias": ["all", "lora_only", "some", "All"],
    "task_type": ["CAUSAL_LM", "SEQ_CLS", "os.system", "FEATURE_EXTRACTION", "QUESTION_ANS"],
    "loftq_config": [{"loftq_bits": 4, "loftq_iter": 10**9}],
    "eva_config": [{"rho": 0}, {"rho": 10**400}],
    "corda_config": [{"cache_file": "/etc/passwd"}, {"covariance_file": "/dev/zero"}],
    "velora_config": [{"num_groups": 0}, {"num_groups": 2**40}, {"scale": "x"}],
    "arrow_config": [{"top_k": 0}, {"top_k": 2**40}],
    "runtime_config": [{"ephemeral_gpu_offload": True}],
    "tokenizer_name_or_path": ["/etc/passwd"],
    "prompt_tuning_init": ["TEXT", "SAMPLE_VOCAB"],
    "num_virtual_tokens": [2**40],
    "r": [2**20, 2**31, "4"],
    "lora_dropout": [1.0, 2.0, -0.5],
    "alora_invocation_tokens": [[2**63], [1] * 10**6],
}
_FIELDS = (
    *("alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping"),
    *("base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying", "eva_config"),
    *("exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "kasa_config"),
    *("layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha"),
    *("lora_bias", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core"),
    *("modules_to_save", "monteclora_config", "peft_type", "peft_version", "qalora_group_size"),
    *("r", "rank_pattern", "revision", "runtime_config", "target_modules", "target_parameters"),
    *("task_type", "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora"),
    *("use_rslora", "velora_config", "a_field_of_a_later_version"),
)
_PAIRED: dict[str, Any] = {
    "r": 2**40,
    "use_dora": True,
    "use_rslora": True,
    "use_qalora": True,
    "lora_bias": True,
    "init_lora_weights": "eva",
    "layers_to_transform": [0],
    "layers_pattern": "layers",
    "target_modules": "(.+)+x",
    "exclude_modules": "(.+)+x",
    "rank_pattern": {"(.+)+x": 4},
    "alpha_pattern": {"(.+)+x": 4},
    "modules_to_save": ["v"],
    "task_type": "SEQ_CLS",
    "bias": "all",
    "layer_replication": [[0, 2], [0, 2]],
    "trainable_token_indices": [0, 1],
    "megatron_config": {"hidden_size": 1},
}
_RAW: dict[str, bytes] = {
    "empty": b"",
    "not an object": b"[]",
    "a number": b"1" * 10**5,
    "depth": b'{"r":' + b"[" * 10**6,
    "a key twice": b'{"peft_type":"LORA","peft_type":"LORA","r":4,"r":4,"target_modules":["q"]}',
    "not UTF-8": b'{"peft_type":"LORA\xff"}',
    "a byte order mark": b'\xef\xbb\xbf{"peft_type":"LORA"}',
    "UTF-16": '{"peft_type":"LORA"}'.encode("utf-16"),
    "zeros": bytes(10**6),
    "megabytes of spaces": b" " * (32 << 20) + b"{}",
}

PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q", "v"],
    "base_model_name_or_path": "base",
}


class Attack(NamedTuple):
    """A configuration that a stranger may have written.

    Attributes:
        name: What it tries.
        content: The bytes of adapter_config.json.
    """

    name: str
    content: bytes


def attacks() -> Iterator[Attack]:
    """All attacks, in an order that does not change."""
    for field in _FIELDS:
        for name, value in _GENERIC.items():
            yield _attack(f"{field}: {name}", {field: value})
    for field, values in _SPECIFIC.items():
        for value in values:
            yield _attack(f"{field} = {value!r:.40}", {field: value})
    for field, place in _PLACES.items():
        for name, pattern in _PATTERNS.items():
            more = {"peft_type": "IA3"} if field == "feedforward_modules" else {}
            more |= {"layers_to_transform": [0]} if field == "layers_pattern" else {}
            yield _attack(f"{field}: {name}", {field: place(pattern)} | more)
    for (one, first), (two, second) in itertools.combinations(_PAIRED.items(), 2):
        yield _attack(f"{one} and {two}", {one: first, two: second})
    for name, content in _RAW.items():
        yield Attack(f"bytes: {name}", content)
    for field in PLAIN:
        fields = {key: value for key, value in PLAIN.items() if key != field}
        yield Attack(f"without {field}", json.dumps(fields).encode())


def _attack(name: str, change: dict[str, Any]) -> Attack:
    return Attack(name, json.dumps(PLAIN | change).encode())


class _Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.v = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)


class Base(torch.nn.Module):
    """A model with the names of a transformer, and little else."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.Module()
        self.model.layers = torch.nn.ModuleList(_Block() for _ in range(2))
        self.a_head_with_a_long_name_on_which_patterns_take_long = torch.nn.Linear(16, 4)


class Doors:
    """The doors through which a configuration comes in.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        config = peft.LoraConfig(r=4, target_modules=["q", "v"], init_lora_weights=False)
        peft.get_peft_model(Base(), config).save_pretrained(folder / "adapter")
        self.adapter = folder / "adapter"
        state = peft.utils.load_peft_weights(self.adapter, device="cpu")
        # Without a configuration, so that its checksum is not in the manifest.
        self.expert = compress(state, kind="lora", density=0.5)
        self.whole = Expert(self.expert.file, json.dumps(PLAIN).encode())
        self.base = Base()
        self.before = ModelState(self.base)
        self.doors: dict[str, Callable[[bytes], object]] = {
            "load": lambda content: load_expert(self.base, self._expert(content)),
            "merge": lambda content: merge([self.whole, self._expert(content)]),
            "delta": lambda content: add_to_base(self.base, self._expert(content)),
            "pool": lambda content: ExpertPool(self.base).add("one", self._expert(content)),
            "compress": self._compress,
            "load_experts": lambda content: load_experts(
                self.base, {"one": self.whole, "two": self._expert(content)}
            ),
            "similarity": lambda content: similarity([self.whole, self._expert(content)]),
            "decompress": self._decompress,
            "export": lambda content: self._written(
                lambda out: export({"one": self._expert(content)}, out)
            ),
            "card": lambda content: self._expert(content).card(),
            "inspect": self._inspect,
            "resolver": self._resolve,
        }

    def _expert(self, content: bytes) -> Expert:
        return Expert(self.expert.file, content)

    def _decompress(self, content: bytes) -> object:
        return self._written(lambda out: decompress(self._expert(content), out))

    def _written(self, write: Callable[[Path], object]) -> object:
        """The result of a door that writes a folder, which is removed, and empty if it refuses."""
        out = self.adapter.parent / "out"
        try:
            return write(out)
        except MetroFastError:
            assert not out.exists() or not any(out.iterdir()), "something was left behind"
            raise
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def _resolve(self, content: bytes) -> object:
        """The resolver of vLLM, which leaves an expert of another base or kind to others."""
        experts = self.adapter.parent / "experts"
        (experts / "one").mkdir(parents=True, exist_ok=True)
        (experts / "one" / EXPERT_FILE).write_bytes(self.expert.file.tobytes())
        (experts / "one" / CONFIG).write_bytes(content)
        return self._written(lambda out: expand(experts, Shelf(out, "PLAIN"), "base", "one"))

    def _inspect(self, content: bytes) -> object:
        def both(out: Path) -> None:
            out.mkdir()
            (out / EXPERT_FILE).write_bytes(self.expert.file.tobytes())
            (out / CONFIG).write_bytes(content)
            ended = call("expert", "inspect", str(out))
            shutil.rmtree(out)
            assert "Traceback" not in ended.stderr, ended.stderr
            if ended.status != 0:
                raise MetroFastError(ended.stderr)

        return self._written(both)

    def _compress(self, content: bytes) -> object:
        (self.adapter / CONFIG).write_bytes(content)
        assert (self.adapter / WEIGHTS).exists()
        return compress(self.adapter, density=0.5)

    def trial(self, door: str, attack: Attack) -> tuple[str, str]:
        """Try an attack: what is wrong with the answer, or "", and the answer."""
        answer, wrong = "accepted", ""
        signal.signal(signal.SIGALRM, _end)
        signal.setitimer(signal.ITIMER_REAL, _GIVE_UP)
        try:
            with measured() as cost, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.doors[door](attack.content)
        except (FormatError, MetroFastError) as error:
            answer = str(error)
            if len(answer) > 1000 or not all(c.isprintable() or c == "\n" for c in answer):
                wrong = "the message is long or moves the cursor"
        except Exception as error:  # noqa: BLE001  (what is counted here)
            answer = wrong = f"{type(error).__name__}: {str(error)[:150]!r}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not wrong and cost.seconds > MOST_SECONDS:
            wrong = f"{cost.seconds:.1f} s"
        if not wrong and cost.megabytes > MOST_MEGABYTES:
            wrong = f"{cost.megabytes:.0f} MB"
        if answer != "accepted" and self.before.differences(ModelState(self.base)):
            wrong += " and the model is changed"
        if answer == "accepted" or "changed" in wrong:
            self.base = Base()
            self.before = ModelState(self.base)
        return wrong, answer


class _Hang(Exception):
    pass


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _Hang(f"more than {_GIVE_UP} s")


def main() -> None:
    """Try everything and print what is wrong."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (3 << 30), now + (3 << 30)))
    verbose = "--verbose" in sys.argv
    wrong: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    tried = list(attacks())
    with TemporaryDirectory() as folder:
        doors = Doors(Path(folder))
        for attack in tried:
            for door in doors.doors:
                found, answer = doors.trial(door, attack)
                accepted[door] += answer == "accepted"
                wrong[door] += bool(found)
                if found or verbose:
                    print(f"{door:9} {attack.name}: {found or answer}", flush=True)
    print(f"{len(tried)} configurations; wrong: {dict(wrong)}; accepted: {dict(accepted)}")


if __name__ == "__main__":
    main()

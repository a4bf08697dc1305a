"""Configurations of strangers at every door, and the patterns and the checksum of one."""

import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

peft = pytest.importorskip("peft")

import torch

import config_attacks
from cost import measured
from metro_fast import FormatError, MetroFastError
from metro_fast.experts import Expert, compress, decompress, load_expert
from metro_fast.experts.adapters.pattern_work import Work, count, parse
from metro_fast.experts.adapters.patterns import Patterns
from metro_fast.experts.adapters.scaling import Scalings

CONFIG = "adapter_config.json"
UNSLOTH = (
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?"
    r"(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}"
    r"\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:q_proj|k_proj|v_proj)))"
)
KNOWN = [
    r".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",  # PEFT's documentation
    r"^model\.layers\.(?!0\.).*self_attn",
    r"^(?!.*visual).*(?:q_proj|v_proj)",
    UNSLOTH,
    "|".join(f"model.layers.{n}.self_attn.{m}_proj" for n in range(80) for m in "qkvo"),
]


def test_there_are_as_many_attacks_as_were_asked_for():
    names = [attack.name for attack in config_attacks.attacks()]
    assert len(names) >= 817
    assert len(set(names)) == len(names)


# 600 calls of doors, half of which build a PEFT model, take 10 s, and 18,288 take 4 minutes.
@pytest.mark.parametrize("part", [0, pytest.param(None, marks=pytest.mark.slow)])
def test_no_configuration_gets_through_a_door(part: int | None, tmp_path: Path):
    attacks = list(config_attacks.attacks())
    if part is not None:
        attacks = attacks[part::31]
    doors = config_attacks.Doors(tmp_path)
    answers = [
        (door, attack.name, *doors.trial(door, attack))
        for attack in attacks
        for door in doors.doors
    ]
    assert [answer for answer in answers if answer[2]] == []
    accepted = {door for door, _, _, answer in answers if answer == "accepted"}
    assert accepted == set(doors.doors)


def test_a_plain_configuration_passes_each_door(tmp_path: Path):
    doors = config_attacks.Doors(tmp_path)
    plain = config_attacks.Attack("plain", json.dumps(config_attacks.PLAIN).encode())
    assert {doors.trial(door, plain) for door in doors.doors} == {("", "accepted")}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"r": 2**40}, "r is 1099511627776, expected a whole number from 1"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan|NaN"),
        ({"alpha_pattern": {"q": 10**400}}, "at most 300 digits"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "megatron_config.*import a module"),
        ({"init_lora_weights": "unknown"}, "init_lora_weights is 'unknown'"),
        ({"target_modules": "x" * 10**6}, "target_modules is 'xxx"),
        ({"layer_replication": [[0, 2**40]]}, "layer_replication"),
        ({"task_type": "os.system"}, "task_type is 'os.system', expected one of"),
        ({"target_modules": "(.+)+x"}, "target_modules has .* takes too long"),
        ({"rank_pattern": {"(": 4}}, "rank_pattern has .* not a pattern"),
        ({"exclude_modules": r"(.*)\1"}, "a reference to another group"),
    ],
)
def test_the_field_is_named(change: dict[str, object], named: str, tmp_path: Path):
    doors = config_attacks.Doors(tmp_path)
    attack = config_attacks.Attack("", json.dumps(config_attacks.PLAIN | change).encode())
    wrong, answer = doors.trial("load", attack)
    assert not wrong
    assert re.search(named, answer), answer


@pytest.mark.parametrize("pattern", KNOWN)
def test_patterns_that_people_use_are_accepted(pattern: str):
    names = [
        f"model.language_model.layers.{n}.{part}"
        for n in range(80)
        for part in ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj", "input_layernorm")
    ]
    work = Work()
    for field in ("target_modules", "alpha_pattern"):
        patterns = Patterns(field, [pattern], work)
        for name in names:
            patterns.count(name)


NODES = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", "^", "$", ""]),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "{1,3}", "{2}"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        )
        | st.tuples(inner, inner).map("|".join).map("(?:{})".format)
        | st.tuples(inner, inner).map("".join)
        | inner.map("(?={})".format)
    ),
    max_leaves=8,
)


def ways(pattern: str, name: str) -> int:
    """The steps of a matcher that goes back and tries again, written without regard to speed."""
    steps = 0

    def match(nodes: list, at: int):  # yields the places where a match ends
        nonlocal steps
        if not nodes:
            yield at
            return
        steps += 1
        if steps > 200_000:
            raise TimeoutError
        (kind, value), rest = nodes[0], nodes[1:]
        word = str(kind)
        if word == "BRANCH":
            ends = itertools.chain.from_iterable(match(list(part), at) for part in value[1])
        elif word == "SUBPATTERN":
            ends = match(list(value[-1]), at)
        elif word == "ASSERT":
            ends = [at] if list(match(list(value[1]), at)) else []
        elif word == "AT":
            end = len(name) if word == "AT_END" else 0
            ends = [at] if at == (end if str(value) == "AT_BEGINNING" else len(name)) else []
        elif word.endswith("_REPEAT"):
            ends = repeat(value, at, 0)
        else:
            single = re.compile({"ANY": "."}.get(word, "")) if word == "ANY" else None
            fits = at < len(name) and (single is not None or _fits(word, value, name[at]))
            ends = [at + 1] if fits else []
        for end in ends:
            yield from match(rest, end)

    def repeat(value, at: int, done: int):
        least, most, body = value
        if done >= least:
            yield at
        if done < most:
            for end in match(list(body), at):
                if end > at or done < least:
                    yield from repeat(value, end, done + 1)

    for _ in match(list(parse(pattern)), 0):
        pass
    return steps


def _fits(word: str, value, character: str) -> bool:
    if word == "LITERAL":
        return ord(character) == value
    if word == "NOT_LITERAL":
        return ord(character) != value
    parts = [(str(kind), part) for kind, part in value]
    found = any(
        ord(character) == part if kind == "LITERAL" else character.isalnum()
        for kind, part in parts
        if kind != "NEGATE"
    )
    return found != (parts[0][0] == "NEGATE")


@settings(max_examples=300, deadline=None)
@given(NODES, st.text("ab", max_size=7))
def test_the_count_is_no_less_than_what_a_matcher_does(pattern: str, name: str):
    try:
        slow = ways(pattern, name)
    except (TimeoutError, RecursionError):
        return
    # Three nested stars have more than 10^15 steps in seven letters.
    work = Work(10**300, 10**9)
    count(parse(pattern), name, work)
    assert 10**300 - work.steps >= slow


def test_the_work_for_all_modules_is_bounded():
    keys = {f"a{n}.*b.*": 4 for n in range(256)}
    scalings = Scalings({"r": 4, "rank_pattern": keys})

    def ranks() -> None:
        for n in range(10**6):
            scalings.rank(f"layers.{n}." + "a." * 400)

    with measured() as cost, pytest.raises(FormatError, match="takes too long"):
        ranks()
    assert cost.seconds < 5  # 0.6 s on an idle machine


def adapter(folder: Path) -> Path:
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q", "v"], init_lora_weights=False)
    peft.get_peft_model(config_attacks.Base(), config).save_pretrained(folder)
    return folder


def change(folder: Path, **fields: object) -> None:
    file = folder / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_another_configuration_is_noticed_and_can_be_recorded(tmp_path: Path):
    expert = compress(adapter(tmp_path / "adapter"), density=0.5)
    assert expert.manifest.version == 3
    folder = tmp_path / "expert"
    expert.save(folder)
    change(folder, base_model_name_or_path="elsewhere", revision="main", peft_version="1")
    assert Expert.load(folder).arrays().keys() == expert.arrays().keys()
    change(folder, lora_alpha=80)
    for door in (Expert.load, lambda path: load_expert(config_attacks.Base(), path)):
        with pytest.raises(FormatError, match=r"not the one.*new_config=True"):
            door(folder)
    Expert.load(folder, new_config=True).save(folder)
    again = Expert.load(folder)
    assert json.loads(again.config)["lora_alpha"] == 80
    for name, array in expert.arrays().items():
        assert (again.arrays()[name] == array).all()
    model = load_expert(config_attacks.Base(), folder)
    assert model.base_model.model.model.layers[0].q.scaling["default"] == 20


def test_the_order_of_a_set_changes_no_byte(tmp_path: Path):
    """PEFT writes a set in the order of its hashes, which is another one in each process."""
    folder = adapter(tmp_path / "adapter")
    file = Path(folder) / CONFIG
    names = json.loads(file.read_text())["target_modules"]
    assert len(names) > 1
    files = []
    for order in (sorted(names), sorted(names, reverse=True)):
        change(Path(folder), target_modules=order)
        files.append(compress(folder, density=0.5).file.tobytes())
    assert files[0] == files[1]


def test_an_expert_without_a_checksum_is_read(tmp_path: Path):
    source = adapter(tmp_path / "adapter")
    whole = compress(source, density=0.5)
    state = peft.utils.load_peft_weights(source, device="cpu")
    old = compress(state, kind="lora", density=0.5)
    assert old.manifest.version == 1
    old.save(tmp_path / "old")
    (tmp_path / "old" / CONFIG).write_bytes(whole.config)
    read = Expert.load(tmp_path / "old")
    assert read.manifest.config_crc32c is None
    decompress(read, tmp_path / "plain")
    load_expert(config_attacks.Base(), read)


def test_there_must_be_a_configuration_to_record(tmp_path: Path):
    compress({"w": torch.ones(4, 4)}, kind="other", density=0.5).save(tmp_path)
    with pytest.raises(MetroFastError, match="leave it out"):
        Expert.load(tmp_path, new_config=True)

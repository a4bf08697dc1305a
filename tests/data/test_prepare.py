"""prepare and train_tokenizer: text to a corpus, the same bytes every time."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from metro_fast import FormatError, MetroFastError
from metro_fast.data import TokenCorpus, prepare, train_tokenizer
from metro_fast.data.documents import read_documents

TEXTS = [
    [f"document {i} of file {f}: it costs {i * 7} coins, they say." for i in range(20 + f)]
    for f in range(3)
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer((t for texts in TEXTS for t in texts), vocab_size=300, num_sentinels=10)


@pytest.fixture
def inputs(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [[json.dumps({"text": text, "id": i}) for i, text in enumerate(t)] for t in TEXTS]
    (folder / "a.jsonl").write_text("\n".join(lines[0]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n\n".join(lines[1]).encode()))
    (folder / "c.txt").write_text("\n".join(TEXTS[2]) + "\n \n")
    return folder


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(inputs, output, tokenizer, **options):
    return prepare(inputs, output, tokenizer, progress=False, **options)


def test_documents_come_in_order_each_with_its_eos(inputs, tokenizer, tmp_path):
    output = run(inputs, tmp_path / "corpus", tokenizer)
    corpus = TokenCorpus(output, block_size=10**6, vocab_size=len(tokenizer))
    assert corpus.num_documents == 63
    text = tokenizer.decode(corpus[0]["input_ids"])
    assert [t.strip() for t in text.split("</s>")] == [t for ts in TEXTS for t in ts] + [""]
    saved = type(tokenizer).from_pretrained(output / "tokenizer")
    assert saved.get_vocab() == tokenizer.get_vocab()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus", "texts"]


def test_the_seed_shuffles_and_nothing_else_changes_a_byte(inputs, tokenizer, tmp_path):
    options = {"shuffle_documents": True, "seed": 3}
    first = contents(run(inputs, tmp_path / "a", tokenizer, **options))
    second = contents(run(inputs, tmp_path / "b", tokenizer, **options))
    assert first == second
    other = contents(run(inputs, tmp_path / "c", tokenizer, shuffle_documents=True, seed=4))
    plain = contents(run(inputs, tmp_path / "d", tokenizer))
    [a, b, c] = (
        sorted(name for name in result if name.endswith(".ds")) for result in (first, other, plain)
    )
    assert a == b
    assert all(first[name] != other[name] for name in a)
    assert [len(first[x]) for x in a] == [len(plain[x]) for x in c]
    assert [first[x] for x in a] != [plain[x] for x in c]


def test_an_interrupted_call_continues_where_it_stopped(inputs, tokenizer, tmp_path, monkeypatch):
    seen, interrupted = [], ["c.txt"]

    def spy(path, *options):
        seen.append(path.name)
        if path.name in interrupted:
            raise KeyboardInterrupt
        return read_documents(path, *options)

    monkeypatch.setattr("metro_fast.data.sources.read_documents", spy)
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "corpus", tokenizer)
    assert not (tmp_path / "corpus").exists()
    finished = tmp_path / ".corpus.preparing" / "00000_unshuffled.ds"
    stamp = finished.stat().st_mtime_ns
    seen.clear()
    interrupted.clear()
    output = run(inputs, tmp_path / "corpus", tokenizer)
    assert seen == ["c.txt"]
    assert (output / finished.name).stat().st_mtime_ns == stamp
    monkeypatch.undo()
    assert contents(output) == contents(run(inputs, tmp_path / "again", tokenizer))


def test_a_finished_call_returns_and_another_is_refused(inputs, tokenizer, tmp_path):
    output = run(inputs, tmp_path / "corpus", tokenizer)
    before = (output / "prepare.json").stat().st_mtime_ns
    run(inputs, tmp_path / "corpus", tokenizer)
    assert (output / "prepare.json").stat().st_mtime_ns == before
    with pytest.raises(MetroFastError, match="made with other inputs, other options"):
        run(inputs, tmp_path / "corpus", tokenizer, shuffle_documents=True)
    with pytest.raises(MetroFastError, match="is not a corpus"):
        run(inputs, inputs, tokenizer)


def test_a_changed_file_of_the_same_size_is_noticed(inputs, tokenizer, tmp_path):
    run(inputs, tmp_path / "corpus", tokenizer)
    text = (inputs / "c.txt").read_bytes()
    (inputs / "c.txt").write_bytes(text.swapcase())
    assert text.swapcase() != text
    with pytest.raises(MetroFastError, match="made with other inputs, other options"):
        run(inputs, tmp_path / "corpus", tokenizer)


def test_two_calls_on_one_output_do_not_mix(inputs, tokenizer, tmp_path, monkeypatch):
    def second(path, *options):
        with (
            ThreadPoolExecutor(1) as other,
            pytest.raises(MetroFastError, match="another process is preparing this output"),
        ):
            other.submit(
                run, inputs, tmp_path / "corpus", tokenizer, shuffle_documents=True
            ).result()
        return read_documents(path, *options)

    monkeypatch.setattr("metro_fast.data.sources.read_documents", second)
    output = run(inputs, tmp_path / "corpus", tokenizer)
    assert TokenCorpus(output, block_size=8).num_documents == 63
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "texts"]


@pytest.mark.parametrize("damage", ["remove", "cut"])
def test_a_damaged_corpus_is_not_called_finished(inputs, tokenizer, tmp_path, damage):
    output = run(inputs, tmp_path / "corpus", tokenizer)
    path = output / "00001_unshuffled.ds"
    path.unlink() if damage == "remove" else path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(FormatError, match=r"00001_unshuffled\.ds is missing or does not have its"):
        run(inputs, tmp_path / "corpus", tokenizer)


def test_special_tokens_in_a_text_are_ordinary_text(tokenizer, tmp_path):
    words = "one </s> two <pad> three <mask> four <extra_id_3> five"
    (tmp_path / "x.txt").write_text(words + "\n")
    output = run(tmp_path / "x.txt", tmp_path / "corpus", tokenizer)
    corpus = TokenCorpus(output, block_size=1000)
    ids = corpus[0]["input_ids"]
    special = set(tokenizer.all_special_ids) | set(
        tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(4)])
    )
    assert [i for i in ids.tolist() if i in special - {tokenizer.unk_token_id}] == [
        tokenizer.eos_token_id
    ]
    assert ids[-1] == tokenizer.eos_token_id


def test_leftovers_of_another_call_are_not_mixed_in(inputs, tokenizer, tmp_path):
    work = tmp_path / ".corpus.preparing"
    work.mkdir()
    (work / "00007_unshuffled.ds").write_bytes(b"rubbish")
    output = run(inputs, tmp_path / "corpus", tokenizer)
    assert not (output / "00007_unshuffled.ds").exists()


def test_truncation_and_padding_of_a_tokenizer_are_ignored(inputs, tokenizer, tmp_path):
    used = type(tokenizer).from_pretrained(run(inputs, tmp_path / "a", tokenizer) / "tokenizer")
    used(["one", "two two"], padding=True, truncation=True, max_length=3)
    b = TokenCorpus(run(inputs, tmp_path / "b", used), block_size=10)
    assert b.num_tokens == TokenCorpus(tmp_path / "a", block_size=10).num_tokens


@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_tokenizer_may_be_a_path(inputs, tokenizer, tmp_path, form):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    path = tmp_path / "tokenizer"
    path = path if form == "folder" else path / "tokenizer.json"
    output = run([inputs / "a.jsonl"], tmp_path / "corpus", path, eos_token="</s>")
    assert TokenCorpus(output, block_size=10).num_documents == 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"text": ', "line 2: it is not JSON"),
        ('{"text": "a"}\n[1]', "line 2: expected a JSON object, found list"),
        ('{"body": "a"}', r"line 1: the object has no key 'text', only \['body'\]"),
        ('{"text": 5}', "line 1: 'text' is of type int"),
        ("[" * 100_000, "line 1: it is not JSON"),
        (r'{"text": "\ud800"}', "line 1: 'text' holds half of a surrogate pair"),
    ],
)
def test_damaged_lines_are_named(tmp_path, tokenizer, content, message):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(FormatError, match=message):
        run(tmp_path / "a.jsonl", tmp_path / "corpus", tokenizer)
    assert not (tmp_path / "corpus").exists()


def test_a_false_or_truncated_gzip_file_is_damaged(tmp_path):
    path = tmp_path / "a.txt.gz"
    whole = gzip.compress(b"some text\n" * 100)
    for content in (b"plain", whole[:-9], whole[:12] + b"\xff" * 9 + whole[21:]):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="damaged"):
            list(read_documents(path, "text"))


def test_nothing_to_tokenize_is_an_error(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("\n \n")
    with pytest.raises(MetroFastError, match="hold no documents"):
        run(tmp_path / "a.txt", tmp_path / "corpus", tokenizer)
    with pytest.raises(MetroFastError, match="names no file"):
        run([], tmp_path / "corpus", tokenizer)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MetroFastError, match="holds no file that ends in"):
        run(tmp_path / "empty", tmp_path / "corpus", tokenizer)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"inputs": "nowhere.txt"}, FileNotFoundError, "nowhere.txt"),
        ({"inputs": "nowhere.csv"}, MetroFastError, "does not end in"),
        ({"tokenizer": "nowhere"}, FileNotFoundError, "nowhere"),
        ({"tokenizer": object()}, TypeError, "expected a fast tokenizer"),
        ({"eos_token": "<nothing>"}, MetroFastError, "eos_token is '<nothing>'"),
        ({"num_workers": 0}, MetroFastError, "num_workers is 0"),
        ({"tasks": 0}, MetroFastError, "tasks is 0"),
        ({"piece_bytes": 0}, MetroFastError, "piece_bytes is 0"),
        ({"inputs": 5}, TypeError, "inputs is a int"),
        ({"inputs": [5]}, TypeError, "an input is a int"),
        ({"seed": -1}, MetroFastError, "seed is -1"),
    ],
)
def test_bad_arguments_are_named(inputs, tokenizer, tmp_path, options, error, message):
    arguments = {"inputs": inputs, "output": tmp_path / "corpus", "tokenizer": tokenizer}
    with pytest.raises(error, match=message):
        prepare(**{**arguments, **options})


def test_an_output_that_cannot_be_made_is_an_os_error(inputs, tokenizer, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run(inputs, tmp_path / "file" / "corpus", tokenizer)


def test_a_trained_tokenizer_is_reproducible_and_rebuilds_text(tokenizer):
    again = train_tokenizer((t for ts in TEXTS for t in ts), vocab_size=300, num_sentinels=10)
    assert again.get_vocab() == tokenizer.get_vocab()
    ids = tokenizer("they say: 149 coins").input_ids
    assert ids[-1] == tokenizer.eos_token_id == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "they say: 149 coins"
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<pad>", "</s>", "<unk>", "<mask>"]
    size = len(tokenizer)
    assert size <= 300
    assert tokenizer.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_9>"]) == [
        size - 1,
        size - 10,
    ]
    assert tokenizer.decode([size - 1], skip_special_tokens=True) == ""


@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        ([], {}, MetroFastError, "texts holds no text"),
        (["ab"], {"vocab_size": 14}, MetroFastError, "expected more than the 10 sentinels"),
        (["abcdefghij"], {"vocab_size": 20}, MetroFastError, "need 25: use a larger vocab_size"),
        ("ab", {}, TypeError, "texts is a string"),
        ([5], {}, TypeError, "texts holds a int, expected strings"),
        (["ab"], {"num_sentinels": -1}, MetroFastError, "num_sentinels is -1"),
    ],
)
def test_texts_and_sizes_that_do_not_work_are_named(texts, options, error, message):
    with pytest.raises(error, match=message):
        train_tokenizer(texts, **{"vocab_size": 100, "num_sentinels": 10, **options})

"""Fast tokenizers of transformers from SentencePiece models whose class nobody declares."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast._memory import read_large
from metro_fast._shown import quoted
from metro_fast.errors import FormatError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["PROBES", "SUFFIXES", "algorithm_of", "load_sentencepiece", "require_sentencepiece"]

SUFFIXES = (".model", ".spm")
_UNIGRAM, _BPE = 1, 2  # TrainerSpec.ModelType
_UNKNOWN, _CONTROL, _USER = 2, 3, 4  # ModelProto.SentencePiece.Type
_SPACE = "▁"
# Texts that the converted tokenizer has to cut as SentencePiece does: spaces at the ends and
# doubled, accents, ligatures and full-width letters (NFKC), digits, letters of no vocabulary.
PROBES = (
    "the quick brown fox",
    "  two  spaces ",
    "Don't (really) pay 12,345.67 %!",
    "naïve ﬁne \uff26\uff35\uff2c\uff2c ümlaut",
    "中文 and 🦊\U00012345 end",
    "aaaa aaaaaaa banana",
    "two\nlines\tand a tab",
)


def require_sentencepiece() -> Any:
    """The package sentencepiece, with the protobuf that reads its models.

    Raises:
        MissingExtraError: If one of them is not installed.
    """
    require("google.protobuf", "sentencepiece")
    return require("sentencepiece", "sentencepiece")


def load_sentencepiece(path: Path) -> "PreTrainedTokenizerFast":
    """A fast tokenizer that gives the ids of a SentencePiece model.

    The ids, the unknown token, BOS and EOS are those of the model itself. transformers converts
    such a file only for a class that it knows; without one it leaves out the space that
    SentencePiece puts in front of a text, so that "the" became three letters.

    Args:
        path: A `.model` or `.spm` file.

    Raises:
        FormatError: If it is not a SentencePiece model, is of a kind that fast tokenizers do not
            have, or the fast tokenizer cuts a text in another way.
        MissingExtraError: If sentencepiece or protobuf is not installed.
        OSError: If it cannot be read.
    """
    processor = require_sentencepiece().SentencePieceProcessor()
    proto = _parse(path)
    try:
        processor.LoadFromSerializedProto(proto.SerializeToString())
    except RuntimeError as error:
        raise FormatError(f"{path} is a damaged SentencePiece model: {error}") from error
    backend = _build(proto, path)
    for probe in (*PROBES, *(f"a {user} b{user}" for user in _users(proto)[:8])):
        expected, ids = processor.EncodeAsIds(probe), backend.encode(probe).ids
        if expected != ids:
            raise FormatError(
                f"{path}: a fast tokenizer cuts {quoted(probe)} into {ids[:12]}, and SentencePiece "
                f"into {expected[:12]}: convert the model with the class of its own model family, "
                "and give the folder to which save_pretrained writes it"
            )
    names = {
        f"{role}_token": proto.pieces[index].piece
        for role in ("unk", "bos", "eos", "pad")
        if (index := getattr(processor, f"{role}_id")()) >= 0
    }
    fast = require("transformers", "train").PreTrainedTokenizerFast
    found: PreTrainedTokenizerFast
    found = fast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)
    return found


def algorithm_of(path: Path) -> str:
    """The name that tokenizers has for the algorithm of a SentencePiece model.

    Raises:
        FormatError: If it is not a SentencePiece model.
        MissingExtraError: If protobuf is not installed.
        OSError: If it cannot be read.
    """
    kind = _parse(path).trainer_spec.model_type
    return {_UNIGRAM: "Unigram", _BPE: "BPE"}.get(kind, "another")


def _parse(path: Path) -> Any:
    protos = require("sentencepiece.sentencepiece_model_pb2", "sentencepiece")
    damaged = require("google.protobuf.message", "sentencepiece").DecodeError
    proto = protos.ModelProto()
    try:
        proto.ParseFromString(read_large(path))
    except damaged as error:
        raise FormatError(f"{path} is not a SentencePiece model ({error})") from error
    if not proto.pieces:
        raise FormatError(f"{path} is not a SentencePiece model: it has no pieces")
    return proto


def _build(proto: Any, path: Path) -> Any:
    """The Rust tokenizer: a model, and the normalization of SentencePiece."""
    tokenizers = require("tokenizers", "train")
    trained = proto.trainer_spec
    if trained.model_type not in (_UNIGRAM, _BPE) or trained.treat_whitespace_as_suffix:
        raise FormatError(
            f"{path} is a SentencePiece model of words, of characters or with spaces behind the "
            "words, which fast tokenizers do not have: train one of type unigram or bpe"
        )
    build = _unigram if trained.model_type == _UNIGRAM else _bpe
    backend = tokenizers.Tokenizer(build(tokenizers.models, proto))
    backend.normalizer = _normalizer(tokenizers, proto.normalizer_spec)
    backend.pre_tokenizer = _cuts(tokenizers, proto)
    decoders = tokenizers.decoders
    scheme = "always" if proto.normalizer_spec.add_dummy_prefix else "never"
    space = decoders.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
    bytes_first = [decoders.ByteFallback()] if trained.byte_fallback else []
    backend.decoder = decoders.Sequence([*bytes_first, space])
    added = tokenizers.AddedToken
    backend.add_special_tokens(
        [
            added(piece.piece, normalized=False, special=True)
            for piece in proto.pieces
            if piece.type in (_UNKNOWN, _CONTROL)
        ]
    )
    return backend


def _unigram(models: Any, proto: Any) -> Any:
    best = max((piece.score for piece in proto.pieces if piece.type == 1), default=0.0)
    scores = [
        # SentencePiece's own bonus, with which a user's symbol is always taken.
        (
            piece.piece,
            len(piece.piece.encode()) * best - 0.1 if piece.type == _USER else piece.score,
        )
        for piece in proto.pieces
    ]
    spec = proto.trainer_spec
    unknown = next(i for i, piece in enumerate(proto.pieces) if piece.type == _UNKNOWN)
    return models.Unigram(scores, unk_id=unknown, byte_fallback=spec.byte_fallback)


def _bpe(models: Any, proto: Any) -> Any:
    convert = require("transformers.convert_slow_tokenizer", "train")
    vocabulary = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == 1}
    unknown = next(piece.piece for piece in proto.pieces if piece.type == _UNKNOWN)
    return models.BPE(
        vocab=vocabulary,
        merges=convert.generate_merges(vocabulary, scores),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=proto.trainer_spec.byte_fallback,
        ignore_merges=bool(_users(proto)),  # a user's symbol is cut out, and has no merges
    )


def _cuts(tokenizers: Any, proto: Any) -> Any:
    """The pre-tokenizer: words, which are cached, unless a piece may hold several."""
    pre_tokenizers = tokenizers.pre_tokenizers
    cuts = []
    if proto.trainer_spec.model_type == _BPE and _users(proto):
        users = sorted(_users(proto), key=len, reverse=True)
        pattern = tokenizers.Regex("|".join(map(re.escape, users)))
        cuts.append(pre_tokenizers.Split(pattern, behavior="isolated"))
    if not any(_SPACE in piece.piece[1:] for piece in proto.pieces):
        cuts.append(pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="never"))
    return pre_tokenizers.Sequence(cuts)


def _normalizer(tokenizers: Any, spec: Any) -> Any:
    """The steps of SentencePiece on a text: its table of letters, spaces, and one in front."""
    normalizers, regex = tokenizers.normalizers, tokenizers.Regex
    steps = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(regex(r"\A +| +\z"), ""))
        steps.append(normalizers.Replace(regex(" {2,}"), " "))
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(_SPACE))
    steps.append(normalizers.Replace(" ", _SPACE))
    return normalizers.Sequence(steps)


def _users(proto: Any) -> list[str]:
    return [piece.piece for piece in proto.pieces if piece.type == _USER]

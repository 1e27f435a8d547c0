"""The same ids as the reference on more than 1,000 lines, for every kind of tokenizer and both kinds of file.

byte-level BPE   llama.cpp on the starter file; `tokenizers` and transformers on vocabularies trained here
SentencePiece    sentencepiece itself, both algorithms, on models trained here and on a real one (stories260K)
WordPiece        transformers' BertTokenizer on a vocabulary trained here
tokenizer.json   transformers on the same file
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.formats.gguf import read_gguf
from madang.formats.metadata import CheckedMetadata
from madang.formats.tokenizers.detokenizer import decode
from madang.formats.tokenizers.tokenizer import tokenizer_from_gguf, tokenizer_from_json
from tests.parity import corpora

tokenizers = pytest.importorskip("tokenizers")
normalizers, pre_tokenizers = tokenizers.normalizers, tokenizers.pre_tokenizers

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
Encode = Callable[[str], list[int]]


@pytest.fixture(scope="session")
def lines(shared_data: Path) -> list[str]:
    found = corpora.lines(shared_data)
    assert len(found) > 1000
    return found


def assert_same(lines: list[str], ours: Encode, reference: Encode) -> None:
    found = [(line, ours(line), reference(line)) for line in lines]
    different = [(line, mine, theirs) for line, mine, theirs in found if mine != theirs]
    assert not different, f"{len(different)} of {len(lines)} lines differ, first: {different[0]}"


# Byte-level BPE


@pytest.fixture(scope="session")
def llama_cpp(starter_gguf: Path) -> Callable[[str, bool], list[int]]:
    """llama.cpp's tokenizer for the starter model, through its server on this machine."""
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(starter_gguf)
    params.n_ctx, params.n_parallel, params.warmup = 64, 1, False
    params.hostnames, params.port = ["127.0.0.1"], 0
    server = xllamacpp.Server(params)

    def encode(text: str, parse_special: bool) -> list[int]:
        body = json.dumps({"content": text, "add_special": True, "parse_special": parse_special}).encode()
        request = urllib.request.Request(server.listening_address + "/tokenize", body)
        with urllib.request.urlopen(request) as answer:
            found: list[int] = json.load(answer)["tokens"]
            return found

    return encode


@pytest.mark.parametrize("parse_special", [True, False])
def test_starter_against_llama_cpp(
    lines: list[str], starter_gguf: Path, llama_cpp: Callable[[str, bool], list[int]], parse_special: bool
) -> None:
    tokenizer = tokenizer_from_gguf(read_gguf(starter_gguf))
    assert_same(
        lines,
        lambda line: tokenizer.encode(line, parse_special=parse_special),
        lambda line: llama_cpp(line, parse_special),
    )


def split_by(*patterns: str) -> Any:
    splits = [pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def gpt2_words(*before: Any, after: tuple[Any, ...] = ()) -> Any:
    return pre_tokenizers.Sequence([*before, pre_tokenizers.ByteLevel(add_prefix_space=False), *after])


def tiktoken_words(digits: str) -> Any:
    return split_by(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )


# Pre-tokenizers as the models' own tokenizer.json has them, mostly built from other parts than ours.
WORDS: dict[str, Callable[[], Any]] = {
    "gpt-2": gpt2_words,
    "llama-bpe": lambda: tiktoken_words(r"\p{N}{1,3}"),
    "qwen2": lambda: tiktoken_words(r"\p{N}"),
    "smollm": lambda: gpt2_words(pre_tokenizers.Digits(individual_digits=True)),
    "command-r": lambda: gpt2_words(pre_tokenizers.Digits(individual_digits=True)),
    "falcon": lambda: gpt2_words(
        pre_tokenizers.Punctuation("contiguous"),
        after=(
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(tokenizers.Regex("[0-9][0-9][0-9]"), "isolated"),
        ),
    ),
}
FORM_C = {"qwen2", "command-r"}
WHOLE_WORDS = {"llama-bpe"}


def trained_bpe(name: str, lines: list[str]) -> tuple[Any, dict[str, Any]]:
    """A reference tokenizer and its model's JSON."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=name in WHOLE_WORDS))
    library.pre_tokenizer = WORDS[name]()
    if name in FORM_C:
        library.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=3000, initial_alphabet=alphabet, special_tokens=list(CONTROL), show_progress=False
    )
    library.train_from_iterator(lines, trainer)
    return library, json.loads(library.to_str())["model"]


def bpe_as_gguf(name: str, model: dict[str, Any]) -> CheckedMetadata:
    texts = sorted(model["vocab"], key=model["vocab"].__getitem__)
    values = {
        "model": "gpt2",
        "pre": name,
        "tokens": texts,
        "token_type": np.array([3 if text in CONTROL else 1 for text in texts], np.int32),
        "merges": [" ".join(pair) for pair in model["merges"]],
        "add_bos_token": False,
    }
    return CheckedMetadata(Path("model.gguf"), {f"tokenizer.ggml.{key}": value for key, value in values.items()})


@pytest.mark.parametrize("name", WORDS)
def test_byte_level_bpe(lines: list[str], name: str) -> None:
    library, model = trained_bpe(name, lines)
    tokenizer = tokenizer_from_gguf(bpe_as_gguf(name, model))
    assert_same(lines, tokenizer.encode, lambda line: list(library.encode(line).ids))
    if name not in FORM_C:
        again = [decode(tokenizer, tokenizer.encode(line, parse_special=False)) for line in lines]
        assert again == lines


@pytest.mark.parametrize(
    ("name", "reference"), [("gpt-2", "GPT2Tokenizer"), ("qwen2", "Qwen2Tokenizer"), ("qwen35", "Qwen3_5Tokenizer")]
)
def test_byte_level_bpe_against_transformers(lines: list[str], name: str, reference: str) -> None:
    transformers = pytest.importorskip("transformers")
    _, model = trained_bpe(name if name in WORDS else "qwen2", lines)
    tokenizer = tokenizer_from_gguf(bpe_as_gguf(name, model))
    make = getattr(transformers, reference, None)
    if make is None:
        pytest.skip(f"this transformers has no {reference}")
    theirs = make(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    plain = [line for line in lines if not any(text in line for text in CONTROL)]
    assert_same(plain, tokenizer.encode, lambda line: list(theirs.encode(line, add_special_tokens=False)))


# SentencePiece

UNTOUCHED = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
SYMBOLS = {"user_defined_symbols": ["<tool>", "▁▁", "ㅋㅋ"]}
SPM_MODELS: dict[str, dict[str, Any]] = {
    "merges, as Llama 2": {"model_type": "bpe", "byte_fallback": True, "split_digits": True, **UNTOUCHED},
    "merges, as Gemma": {
        **{"model_type": "bpe", "byte_fallback": True, "split_digits": True, "add_dummy_prefix": False},
        **{"allow_whitespace_only_pieces": True, **UNTOUCHED, **SYMBOLS},
    },
    "merges, normalized, unknown": {"model_type": "bpe"},
    "merges across words": {"model_type": "bpe", "byte_fallback": True, "split_by_whitespace": False, **SYMBOLS},
    "unigram, as T5": {"model_type": "unigram"},
    "unigram, bytes": {"model_type": "unigram", "byte_fallback": True, **SYMBOLS},
    "unigram, untouched": {"model_type": "unigram", "allow_whitespace_only_pieces": True, **UNTOUCHED, **SYMBOLS},
    "unigram across words": {
        **{"model_type": "unigram", "split_by_whitespace": False, "normalization_rule_name": "nmt_nfkc_cf"},
    },
}


@pytest.mark.parametrize("name", SPM_MODELS)
def test_sentencepiece(lines: list[str], name: str) -> None:
    sentencepieces = pytest.importorskip("tests.parity.sentencepieces")
    model = sentencepieces.train(lines, character_coverage=0.98, **SPM_MODELS[name])
    reference = sentencepieces.sentencepiece.SentencePieceProcessor(model_proto=model)
    tokenizer = tokenizer_from_gguf(sentencepieces.as_gguf(model))
    assert_same(
        lines,
        lambda line: tokenizer.encode(line, add_special=False, parse_special=False),
        lambda line: list(reference.encode(line)),
    )
    if SPM_MODELS[name].items() >= {"byte_fallback": True, **UNTOUCHED}.items():
        decoded = [decode(tokenizer, tokenizer.encode(line, parse_special=False)) for line in lines]
        assert decoded == [reference.decode(reference.encode(line)) for line in lines]


def test_sentencepiece_of_a_real_model(lines: list[str], shared_data: Path) -> None:
    sentencepieces = pytest.importorskip("tests.parity.sentencepieces")
    model = sentencepieces.llama2c_model(shared_data / "tiny" / "tok512.bin")
    reference = sentencepieces.sentencepiece.SentencePieceProcessor(model_proto=model)
    tokenizer = tokenizer_from_gguf(sentencepieces.as_gguf(model))
    assert_same(
        lines, lambda line: tokenizer.encode(line, parse_special=False), lambda line: [1, *reference.encode(line)]
    )


@pytest.mark.parametrize("name", ["merges, as Llama 2", "unigram, as T5"])
def test_sentencepiece_as_tokenizer_json(lines: list[str], tmp_path: Path, name: str) -> None:
    sentencepieces = pytest.importorskip("tests.parity.sentencepieces")
    transformers = pytest.importorskip("transformers")
    gguf = sentencepieces.as_gguf(sentencepieces.train(lines, character_coverage=0.98, **SPM_MODELS[name]))
    file = tmp_path / "tokenizer.json"
    spm_library(gguf).save(str(file))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **names)
    ours = tokenizer_from_json(tmp_path)
    assert_same(lines, ours.encode, lambda line: list(theirs.encode(line)))
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    assert [decode(ours, ours.encode(line)) for line in lines] == [
        theirs.decode(theirs.encode(line), **options) for line in lines
    ]


def spm_library(gguf: CheckedMetadata) -> Any:
    """The `tokenizers` form of a SentencePiece model, built as transformers converts them."""
    texts = gguf.require_strs("tokenizer.ggml.tokens")
    scores = dict(zip(texts, gguf.metadata["tokenizer.ggml.scores"].tolist(), strict=True))  # type: ignore[union-attr]
    ids = {text: token_id for token_id, text in enumerate(texts)}
    if gguf.require_str("tokenizer.ggml.model") == "llama":
        convert = pytest.importorskip("transformers.convert_slow_tokenizer")
        merges = convert.generate_merges(ids, scores)
        model = tokenizers.models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    else:
        model = tokenizers.models.Unigram(list(scores.items()), unk_id=0, byte_fallback=False)
        rules = gguf.metadata["tokenizer.ggml.precompiled_charsmap"].tobytes()  # type: ignore[union-attr]
        fewer_spaces = normalizers.Replace(tokenizers.Regex(" {2,}"), "▁")
        steps = [normalizers.Precompiled(rules), normalizers.Strip(left=False, right=True), fewer_spaces]
    library = tokenizers.Tokenizer(model)
    library.normalizer = normalizers.Sequence(steps)
    if isinstance(model, tokenizers.models.Unigram):
        library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    decoders = tokenizers.decoders
    marks = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    library.decoder = decoders.Sequence(marks)
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    library.add_special_tokens([tokenizers.AddedToken(text, normalized=False) for text in ("<unk>", "<s>", "</s>")])
    return library


# WordPiece


@pytest.mark.parametrize("lowercase", [True, False])
def test_word_piece(lines: list[str], tmp_path: Path, lowercase: bool) -> None:
    transformers = pytest.importorskip("transformers")
    trained = tokenizers.BertWordPieceTokenizer(lowercase=lowercase)
    # GGUF marks the beginnings of words with U+2581, so it cannot tell apart tokens that hold it themselves.
    trained.train_from_iterator([line.replace("▁", "") for line in lines], vocab_size=3000, show_progress=False)
    vocabulary = trained.get_vocab()
    theirs = transformers.BertTokenizer(vocab=vocabulary, do_lower_case=lowercase)
    ours = tokenizer_from_gguf(word_pieces_as_gguf(sorted(vocabulary, key=vocabulary.__getitem__)))
    assert_same(lines, ours.encode, lambda line: list(theirs.encode(line)))
    theirs.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert_same(lines, tokenizer_from_json(tmp_path).encode, lambda line: list(theirs.encode(line)))


def word_pieces_as_gguf(texts: list[str]) -> CheckedMetadata:
    """BERT's vocabulary in GGUF's spelling."""
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    values = {
        "model": "bert",
        "tokens": [t if t in special else t[2:] if t.startswith("##") else "▁" + t for t in texts],
        "token_type": np.array([3 if text in special else 1 for text in texts], np.int32),
        "bos_token_id": texts.index("[CLS]"),
        "seperator_token_id": texts.index("[SEP]"),
        "unknown_token_id": texts.index("[UNK]"),
    }
    return CheckedMetadata(Path("model.gguf"), {f"tokenizer.ggml.{key}": value for key, value in values.items()})

"""Tokenizers of every kind, there and back: the same ids on English and Korean text, for us and for transformers."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from madang.conversion import to_gguf
from madang.conversion.to_folder import loading_note
from madang.core.errors import CannotConvert, MalformedFile
from madang.formats.gguf import read_gguf
from madang.formats.gguf_writing import write_gguf
from madang.formats.metadata import CheckedMetadata
from madang.formats.tokenizers.pretokenizers import pretokenizer
from madang.formats.tokenizers.to_gguf import gguf_tokenizer
from madang.formats.tokenizers.to_json import write_tokenizer
from madang.formats.tokenizers.tokenizer import tokenizer_from_gguf, tokenizer_from_json
from madang.formats.tokenizers.vocabulary import TokenKind
from tests.conversion.peers import LlamaCpp
from tests.formats import vocabularies
from tests.parity import corpora
from tests.parity.checkpoints import TinyModel, write_checkpoint, write_folder
from tests.parity.test_tokenizer_parity import SPM_MODELS, WORDS, spm_library, trained_bpe

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

# Types of models for which AutoTokenizer (5.23) splits words in one way, whatever tokenizer.json says.
FORCED = {"qwen2"}
TEMPLATE = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
TEXTS = ["Hello, world!", "안녕하세요, 세계!", "  x = 1\n\ty", "한글과 English, 12345 🙂", "<|im_end|>"]


@pytest.fixture(scope="module")
def lines(shared_data: Path) -> list[str]:
    found = corpora.lines(shared_data)
    chosen = found[:: max(len(found) // 300, 1)]
    assert any("가" <= letter <= "힣" for line in chosen for letter in line)
    return chosen


def folder_of(library: Any, folder: Path, **config: Any) -> Path:
    """A folder with this tokenizer and nothing else."""
    folder.mkdir()
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def there_and_back(
    folder: Path,
    lines: list[str],
    *,
    n_rows: int | None = None,
    original: CheckedMetadata | None = None,
    model_type: str = "llama",
) -> CheckedMetadata:
    """The metadata, after ids were compared everywhere.

    original   what the GGUF side is compared with: SentencePiece adds up scores in float32, the library in float64,
               and splits with equal sums are chosen by that
    """
    before = tokenizer_from_json(folder)
    keys = gguf_tokenizer(folder, n_rows or before.vocab_size, "llama")
    metadata = CheckedMetadata(folder, keys)  # type: ignore[arg-type]
    there = tokenizer_from_gguf(metadata)
    first = before if original is None else tokenizer_from_gguf(original)
    back_folder = folder.with_name("back")
    back_folder.mkdir()
    write_tokenizer(metadata, back_folder)
    back = tokenizer_from_json(back_folder)
    (back_folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    loader = transformers.PreTrainedTokenizerFast if model_type in FORCED else transformers.AutoTokenizer
    theirs = loader.from_pretrained(back_folder)
    for line in lines:
        expected = before.encode(line)
        assert there.encode(line, add_special=False) == first.encode(line, add_special=False), line
        assert back.encode(line) == expected, line
        assert theirs.encode(line) == expected, line
    for name in ("bos_id", "eos_id", "chat_template"):
        assert getattr(before, name) == getattr(there, name) == getattr(back, name), name
    return metadata


@pytest.mark.parametrize("name", WORDS)
def test_byte_pairs(lines: list[str], tmp_path: Path, name: str) -> None:
    library, _ = trained_bpe(name, lines)
    library.add_tokens([tokenizers.AddedToken("<tool>", normalized=False)])
    folder = folder_of(
        library, tmp_path / "a", bos_token="<|im_start|>", eos_token="<|im_end|>", chat_template=TEMPLATE
    )
    metadata = there_and_back(folder, [*lines, *TEXTS, "a <tool> b"])
    assert pretokenizer(metadata.require_str("tokenizer.ggml.pre")) == pretokenizer(name)
    assert metadata.require_int("tokenizer.ggml.eos_token_id") == library.token_to_id("<|im_end|>")
    assert metadata.get_bool("tokenizer.ggml.add_bos_token", None) is False
    kinds = metadata.get_ints("tokenizer.ggml.token_type", None)
    assert kinds is not None
    assert kinds[library.token_to_id("<tool>")] == TokenKind.USER_DEFINED
    assert kinds[library.token_to_id("<|im_end|>")] == TokenKind.CONTROL


@pytest.mark.parametrize(("family", "name"), [("exaone", "exaone"), ("starcoder2", "starcoder"), ("llama", "smollm")])
def test_a_rule_has_the_name_that_its_family_gave_it(tmp_path: Path, family: str, name: str) -> None:
    library = byte_library(pre=WORDS["smollm"]())
    folder = folder_of(library, tmp_path / "a")
    assert gguf_tokenizer(folder, library.get_vocab_size(), family)["tokenizer.ggml.pre"] == name


@pytest.mark.parametrize(("folder", "name"), [("A.X-4.0-Light", "a.x-4.0"), ("other", "gpt-2")])
def test_a_x_has_a_name_of_its_own(tmp_path: Path, folder: str, name: str) -> None:
    library = byte_library(pre=WORDS["gpt-2"]())
    keys = gguf_tokenizer(folder_of(library, tmp_path / folder), library.get_vocab_size(), "qwen2")
    assert keys["tokenizer.ggml.pre"] == name


def test_who_loads_a_x_is_told(tmp_path: Path) -> None:
    library = byte_library(pre=WORDS["gpt-2"]())
    for architecture, is_told in (("qwen2", True), ("llama", False)):
        keys = gguf_tokenizer(folder_of(library, tmp_path / architecture), library.get_vocab_size(), architecture)
        path = tmp_path / f"{architecture}.gguf"
        write_gguf(path, {"general.architecture": architecture, **keys}, [])
        assert ("PreTrainedTokenizerFast" in (loading_note(read_gguf(path)) or "")) is is_told


@pytest.mark.parametrize("model_type", ["qwen2", "gemma2", "gpt2", "phi3", "mistral"])
def test_the_class_that_goes_with_a_model_changes_nothing(lines: list[str], tmp_path: Path, model_type: str) -> None:
    """transformers has a class for most types of models that splits words in its own way; A.X 4.0, a qwen2 with words
    as GPT-2's, is read wrongly by it, and AutoTokenizer cannot be kept from that.
    """
    library, _ = trained_bpe("smollm", lines)
    folder = folder_of(library, tmp_path / "a", eos_token="<|im_end|>")
    there_and_back(folder, [*lines, *TEXTS], model_type=model_type)


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2", "merges, as Llama 2"])
def test_llama_cpp_reads_the_same_tokens(lines: list[str], shared_data: Path, tmp_path: Path, name: str) -> None:
    if name in WORDS:
        library, _ = trained_bpe(name, lines)
    else:
        sentencepieces = pytest.importorskip("tests.parity.sentencepieces")
        trained = sentencepieces.train(corpora.lines(shared_data), character_coverage=0.98, **SPM_MODELS[name])
        library = spm_library(sentencepieces.as_gguf(trained))
    model = TinyModel("tokens", n_layers=1, vocab_size=library.get_vocab_size())
    folder = tmp_path / "a"
    write_folder(write_checkpoint(model, tmp_path / "a.gguf"), folder)
    library.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} if name not in WORDS else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    to_gguf(folder, tmp_path / "b.gguf")
    server = LlamaCpp(tmp_path / "b.gguf", library.get_vocab_size(), encoder=False)
    ours = tokenizer_from_json(folder)
    for line in [*lines, *TEXTS]:
        if unicodedata.is_normalized("NFC", line):  # llama.cpp does not bring texts into this form
            assert server.tokens(line) == ours.encode(line), line


def byte_library(pre: Any) -> Any:
    """A tokenizer of single bytes that splits words in this way."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    library = tokenizers.Tokenizer(tokenizers.models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    library.pre_tokenizer = pre
    library.decoder = tokenizers.decoders.ByteLevel()
    return library


@pytest.mark.parametrize("name", ["merges, as Llama 2", "unigram, as T5"])
def test_sentencepiece(lines: list[str], shared_data: Path, tmp_path: Path, name: str) -> None:
    sentencepieces = pytest.importorskip("tests.parity.sentencepieces")
    trained = sentencepieces.train(corpora.lines(shared_data), character_coverage=0.98, **SPM_MODELS[name])
    model = sentencepieces.as_gguf(trained)
    folder = folder_of(spm_library(model), tmp_path / "a", bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    metadata = there_and_back(folder, [*lines, *TEXTS], original=model)
    assert metadata.require_str("tokenizer.ggml.model") == model.require_str("tokenizer.ggml.model")
    assert metadata.require_strs("tokenizer.ggml.tokens") == model.require_strs("tokenizer.ggml.tokens")
    ours, theirs = (one.get_ints("tokenizer.ggml.token_type", None) for one in (metadata, model))
    assert ours is not None and theirs is not None
    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("scheme", ["first", "never"])
def test_sentencepiece_in_its_newer_form(lines: list[str], shared_data: Path, tmp_path: Path, scheme: str) -> None:
    """Without a normalizer: Metaspace marks the spaces."""
    sentencepieces = pytest.importorskip("tests.parity.sentencepieces")
    trained = sentencepieces.train(
        corpora.lines(shared_data), character_coverage=0.98, **SPM_MODELS["merges, as Llama 2"]
    )
    library = spm_library(sentencepieces.as_gguf(trained))
    library.normalizer = None
    library.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    folder = folder_of(library, tmp_path / "a", bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    before = tokenizer_from_json(folder)
    keys = gguf_tokenizer(folder, before.vocab_size, "llama")
    assert keys["tokenizer.ggml.add_space_prefix"] is (scheme == "first")
    there = tokenizer_from_gguf(CheckedMetadata(folder, keys))  # type: ignore[arg-type]
    for line in lines:
        # SentencePiece has a space more where a text begins with one, and GGUF after a control token.
        if not line.startswith((" ", "▁")) and not any(token in line for token in ("<s>", "</s>", "<unk>")):
            assert there.encode(line) == before.encode(line), line


def test_sentencepiece_without_a_space_before(lines: list[str], tmp_path: Path) -> None:
    """Gemma's: a file of the real algorithm, as tokenizer.json and back."""
    sentencepieces = pytest.importorskip("tests.parity.sentencepieces")
    options = {key: value for key, value in SPM_MODELS["merges, as Gemma"].items() if key != "user_defined_symbols"}
    model = sentencepieces.as_gguf(sentencepieces.train(lines, character_coverage=0.98, **options))
    folder = tmp_path / "a"
    folder.mkdir()
    write_tokenizer(model, folder)
    there_and_back(folder, [*lines, *TEXTS])


def test_word_pieces(lines: list[str], tmp_path: Path) -> None:
    library = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    library.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=2000, special_tokens=special, show_progress=False)
    library.train_from_iterator([line for line in lines if "▁" not in line], trainer)
    around = [("[CLS]", 2), ("[SEP]", 3)]
    library.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=around)
    library.decoder = tokenizers.decoders.WordPiece()
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"}
    folder = folder_of(library, tmp_path / "a", **names)
    before = tokenizer_from_json(folder)
    keys = gguf_tokenizer(folder, before.vocab_size, "bert")
    there = tokenizer_from_gguf(CheckedMetadata(folder, keys))  # type: ignore[arg-type]
    back = tmp_path / "back"
    back.mkdir()
    write_tokenizer(CheckedMetadata(folder, keys), back)  # type: ignore[arg-type]
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(back)
    for line in [*lines, *TEXTS]:
        expected = before.encode(line)
        assert there.encode(line) == expected
        assert theirs.encode(line) == expected
    assert keys["tokenizer.ggml.cls_token_id"] == 2
    assert keys["tokenizer.ggml.padding_token_id"] == 0


def test_more_rows_than_tokens(tmp_path: Path) -> None:
    library = byte_library(pre=WORDS["gpt-2"]())
    folder = folder_of(library, tmp_path / "a")
    metadata = there_and_back(folder, TEXTS, n_rows=300)
    assert metadata.require_strs("tokenizer.ggml.tokens")[-1] == "[PAD299]"
    kinds = metadata.get_ints("tokenizer.ggml.token_type", None)
    assert kinds is not None and set(kinds[256:].tolist()) == {TokenKind.UNUSED}


def test_more_tokens_than_rows(tmp_path: Path) -> None:
    folder = folder_of(byte_library(pre=WORDS["gpt-2"]()), tmp_path / "a")
    with pytest.raises(MalformedFile, match="256 tokens, but the model has 255"):
        gguf_tokenizer(folder, 255, "llama")


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CannotConvert, match=r"has no tokenizer\.json"):
        gguf_tokenizer(tmp_path, 255, "llama")


def _words_only() -> Any:
    return byte_library(
        tokenizers.pre_tokenizers.Sequence(
            [
                tokenizers.pre_tokenizers.Split(tokenizers.Regex("[aeiou]"), "isolated"),
                tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )


def _two_around() -> Any:
    library = byte_library(WORDS["gpt-2"]())
    special = [("a", 64), ("b", 65)]
    library.post_processor = tokenizers.processors.TemplateProcessing("a b $A", special_tokens=special)
    return library


def _levels() -> Any:
    return tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1}, "[UNK]"))


@pytest.mark.parametrize(
    ("make", "words"), [(_words_only, "no rule"), (_two_around, "adds the tokens"), (_levels, "kind 'WordLevel'")]
)
def test_what_gguf_has_no_form_for(tmp_path: Path, make: Callable[[], Any], words: str) -> None:
    with pytest.raises(CannotConvert, match=words):
        gguf_tokenizer(folder_of(make(), tmp_path / "a", bos_token="a"), 300, "llama")


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5", "bert"])
def test_small_vocabularies_as_json(tmp_path: Path, kind: str) -> None:
    metadata = {
        "gpt2": vocabularies.byte_pairs,
        "llama": vocabularies.sentencepiece,
        "t5": lambda: vocabularies.sentencepiece("t5"),
        "bert": vocabularies.word_pieces,
    }[kind]()
    after = write_tokenizer(metadata, tmp_path)
    before = tokenizer_from_gguf(metadata)
    for text in ("hello hell", "abc ab c", "playing runed", "가 a"):
        assert after.encode(text) == before.encode(text)
    assert after.eos_id == before.eos_id

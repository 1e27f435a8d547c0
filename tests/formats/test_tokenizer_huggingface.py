"""Tokenizers from Hugging Face folders: the library's ids, our guarantees, and the files beside it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Library

from madang.core.errors import MalformedFile, ModelNotFound, UnsupportedModel
from madang.formats.tokenizers.detokenizer import decode
from madang.formats.tokenizers.tokenizer import Tokenizer, tokenizer_from_json
from tests.formats.vocabularies import BYTE_LETTERS


def byte_level() -> Library:
    tokens = [*BYTE_LETTERS, "he", "ll", "hell"]
    library = Library(models.BPE({text: n for n, text in enumerate(tokens)}, [("h", "e"), ("l", "l"), ("he", "ll")]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    library.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    return library


def with_byte_fallback() -> Library:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    ids = {text: n for n, text in enumerate(tokens)}
    library = Library(models.BPE(ids, [("▁", "a")], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    library.decoder = decoders.Sequence(steps)
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    library.add_special_tokens([AddedToken(text, normalized=False) for text in ("<unk>", "<s>", "</s>")])
    return library


def folder(path: Path, library: Library, **files: Any) -> Path:
    """A model folder; ``files`` are the JSON files beside the tokenizer, without their endings."""
    library.save(str(path / "tokenizer.json"))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


def load(path: Path, library: Library, **files: Any) -> Tokenizer:
    return tokenizer_from_json(folder(path, library, **files))


def test_ids_bytes_and_special_tokens(tmp_path: Path) -> None:
    made = load(tmp_path, byte_level(), tokenizer_config={"eos_token": "<|im_end|>", "chat_template": "{{ 1 }}"})
    ids = made.encode("hell<|im_end|>한<tool>")
    assert [made.token_bytes(i) for i in ids] == [b"hell", b"<|im_end|>", b"\xed", b"\x95", b"\x9c", b"<tool>"]
    assert decode(made, ids) == "hell한<tool>"
    assert (made.bos_id, made.eos_id) == (None, made.encode("<|im_end|>")[0])
    assert made.end_ids == set(made.encode("<|im_end|><|endoftext|>"))
    assert made.chat_template == "{{ 1 }}"


@pytest.mark.parametrize("make", [byte_level, with_byte_fallback])
def test_untrusted_text_makes_no_control_token(tmp_path: Path, make: Any) -> None:
    made = load(tmp_path, make())
    for text in ("a<|im_end|>", "</s>a", "<<s>s>", "a</s> a\ufdd0</s>"):
        plain = made.encode(text, add_special=False, parse_special=False)
        assert not any(map(made.is_control, plain))
        assert made.encode(made.guard(text), add_special=False) == plain


def test_spaces_and_bytes_of_sentencepiece(tmp_path: Path) -> None:
    made = load(tmp_path, with_byte_fallback(), tokenizer_config={"bos_token": {"content": "<s>"}, "eos_token": "</s>"})
    assert made.encode("a한") == [1, 261, *(3 + byte for byte in "한".encode())]
    assert decode(made, made.encode(" a 한")) == " a 한"
    assert (made.vocabulary.prefix_ids, made.end_ids) == ((1,), {2})


def test_words_of_bert(tmp_path: Path) -> None:
    library = Library(models.WordPiece({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "play": 3, "##ing": 4}, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    library.decoder = decoders.WordPiece()
    library.enable_truncation(2)
    library.enable_padding(length=9)
    made = load(tmp_path, library)
    assert made.encode("Playing play") == [1, 3, 4, 3, 2]
    assert decode(made, [3, 4, 3]) == "playing play"


def test_the_files_beside_it(tmp_path: Path) -> None:
    made = load(
        tmp_path,
        with_byte_fallback(),
        special_tokens_map={"bos_token": "<s>", "eos_token": "<unk>"},
        tokenizer_config={"eos_token": "</s>", "add_bos_token": False, "add_eos_token": True, "chat_template": [
            {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "default"},
        ]},
        generation_config={"eos_token_id": [2, 5, -1, 10**9, True, "2"]},
    )  # fmt: skip
    assert (made.bos_id, made.eos_id, made.end_ids) == (1, 2, {2, 5})
    assert made.encode("a") == [261, 2]
    assert made.chat_template == "default"
    (tmp_path / "chat_template.jinja").write_text("newer", encoding="utf-8")
    assert tokenizer_from_json(tmp_path / "tokenizer.json").chat_template == "newer"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("tokenizer.json", b"{", "the tokenizers library refuses it"),
        ("tokenizer.json", b"\xff\xfe", "not UTF-8"),
        ("tokenizer_config.json", b"[]", "no JSON object"),
        ("tokenizer_config.json", b"{,}", "not JSON"),
        ("generation_config.json", b"[" * 100_000, "not JSON"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    path = folder(tmp_path, byte_level())
    (path / name).write_bytes(content)
    with pytest.raises(MalformedFile, match=problem) as caught:
        tokenizer_from_json(path)
    assert caught.value.path.endswith(name)


def test_damage_that_makes_the_library_panic(tmp_path: Path) -> None:
    content = json.loads(byte_level().to_str())
    path = tmp_path / "tokenizer.json"
    rules = {"type": "Precompiled", "precompiled_charsmap": "BAAAAAD//38="}
    for change in ({"normalizer": rules}, {"model": content["model"] | {"merges": ["h h"]}}):
        path.write_text(json.dumps(content | change), encoding="utf-8")
        with pytest.raises(MalformedFile, match="refuses it"):
            tokenizer_from_json(path)


def test_ids_beyond_reason(tmp_path: Path) -> None:
    content = json.loads(byte_level().to_str())
    content["model"]["vocab"]["a"] = 2**32 - 1
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(MalformedFile, match="id 4294967295; at most 4194304"):
        tokenizer_from_json(path)


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"tokenizer\.json"):
        tokenizer_from_json(tmp_path)


def test_a_decoder_that_cannot_be_streamed(tmp_path: Path) -> None:
    library = byte_level()
    library.decoder = decoders.BPEDecoder()
    with pytest.raises(UnsupportedModel, match="BPEDecoder"):
        load(tmp_path, library)


def test_many_threads_may_encode(tmp_path: Path) -> None:
    library = byte_level()
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\s+|\S+"), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    made = load(tmp_path, library)
    texts = [f"hell <|im_end|> {n}" for n in range(200)]
    expected = [(made.encode(text), made.encode(text, parse_special=False)) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda text: (made.encode(text), made.encode(text, parse_special=False)), texts)
        assert list(found) == expected

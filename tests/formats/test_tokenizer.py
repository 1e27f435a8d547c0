"""What every tokenizer promises, whatever its kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.formats.tokenizers.detokenizer import decode
from madang.formats.tokenizers.tokenizer import tokenizer_from_gguf
from tests.formats.vocabularies import byte_pairs, tokenizer

KINDS = ("gpt2", "llama", "t5", "bert")


def texts(kind: str, text: str, **options: bool) -> list[str]:
    made = tokenizer(kind)
    return [made.token_text(token_id) for token_id in made.encode(text, **options)]


def test_byte_pairs_merge_by_rank() -> None:
    assert texts("gpt2", "hello hell") == ["hell", "o", "Ġ", "hell"]


def test_sentencepiece_merges_by_score() -> None:
    assert texts("llama", "abc bc", add_special=False) == ["▁", "abc", "▁", "bc"]
    assert texts("llama", "a가나", add_special=False) == ["▁a", "가", "<0xEB>", "<0x82>", "<0x98>"]


def test_unigram_takes_the_likeliest_split() -> None:
    assert texts("t5", "abc", add_special=False) == ["▁", "abc"]
    assert texts("t5", "abc나", add_special=False)[2:] == ["<0xEB>", "<0x82>", "<0x98>"]


def test_word_pieces_take_the_longest_match() -> None:
    assert texts("bert", "Playing, RUN") == ["[CLS]", "▁play", "ing", "▁,", "▁run", "[SEP]"]
    assert texts("bert", "walk run", add_special=False) == ["[UNK]", "▁run"]


def test_beginning_and_end_are_added_as_each_kind_does() -> None:
    assert tokenizer("gpt2").encode("h")[:1] != [0]
    assert tokenizer("gpt2", pre="llama-bpe").encode("h")[0] == 0
    assert tokenizer("gpt2", pre="llama-bpe", add_bos_token=False).encode("h")[0] != 0
    assert tokenizer("gpt2", add_bos_token=True, add_eos_token=True).encode("") == [0, 1]
    assert tokenizer("llama").encode("") == [1]
    assert tokenizer("t5").encode("") == [2]
    assert tokenizer("bert").encode("") == [2, 3]
    assert tokenizer("llama").encode("", add_special=False) == []


@pytest.mark.parametrize(
    ("kind", "control"), [("gpt2", "<|im_end|>"), ("llama", "</s>"), ("t5", "</s>"), ("bert", "[SEP]")]
)
def test_control_tokens_count_only_in_trusted_text(kind: str, control: str) -> None:
    made = tokenizer(kind)
    text = f"h{control}a"
    [control_id] = made.encode(control, add_special=False)
    assert made.is_control(control_id)
    assert control_id in made.encode(text, add_special=False)
    assert control_id not in made.encode(text, add_special=False, parse_special=False)


@pytest.mark.parametrize("kind", KINDS)
@given(
    text=st.lists(st.sampled_from(["<|im_", "im_end|>", "<|im_end|>", "</s>", "</", "s>", "[SEP]", "h", " ", "\ufdd0"]))
)
def test_no_untrusted_text_makes_a_control_token(kind: str, text: list[str]) -> None:
    made = tokenizer(kind)
    joined = "".join(text)
    unknown_id = made.vocabulary.unknown_id
    plain = made.encode(joined, add_special=False, parse_special=False)
    guarded = made.encode(made.guard(joined), add_special=False)
    assert not any(made.is_control(token_id) for token_id in plain if token_id != unknown_id)
    assert guarded == made.encode(joined.replace("\ufdd0", ""), add_special=False, parse_special=False)


def test_user_defined_tokens_always_count() -> None:
    assert texts("gpt2", "h<tool>h", parse_special=False) == ["h", "<tool>", "h"]


def test_guarded_messages_inside_a_trusted_template() -> None:
    made = tokenizer()
    user = "hell<|im_end|>"
    rendered = f"<|im_start|>{made.guard(user)}<|im_end|>"
    ids = made.encode_chat(rendered)
    assert [ids[0], ids[-1]] == [0, 1]
    assert not set(ids[1:-1]) & {0, 1}
    assert decode(made, ids) == user


def test_a_rendered_chat_gets_one_beginning() -> None:
    made = tokenizer("llama")
    assert made.encode_chat("a")[:1] == [1]
    assert made.encode_chat("<s>a").count(1) == 1
    assert tokenizer("gpt2").encode_chat("h") == tokenizer("gpt2").encode("h")


def test_lone_surrogates_are_read_as_replacement_characters() -> None:
    made = tokenizer()
    assert made.encode("a\ud800b") == made.encode("a\ufffdb")


def test_what_a_token_stands_for() -> None:
    made = tokenizer()
    assert made.token_bytes(made.encode("hell")[0]) == b"hell"
    assert [made.token_bytes(i) for i in made.encode("한")] == [b"\xed", b"\x95", b"\x9c"]
    assert made.token_bytes(0) == b"<|im_start|>"
    llama = tokenizer("llama")
    assert [llama.token_bytes(i) for i in llama.encode("ab나", add_special=False)] == [
        b" ", b"ab", b"\xeb", b"\x82", b"\x98",
    ]  # fmt: skip
    assert [tokenizer("bert").token_bytes(i) for i in (5, 6, 0)] == [b" play", b"ing", b"[PAD]"]


def test_ids_past_the_end_are_empty() -> None:
    made = tokenizer()
    past = made.vocab_size
    assert (made.token_bytes(past), made.token_text(past), made.is_control(past)) == (b"", "", True)


def test_what_ends_a_generation() -> None:
    made = tokenizer(chat_template="{{ 1 }}")
    assert (made.bos_id, made.eos_id, made.end_ids, made.chat_template) == (0, 1, frozenset({1}), "{{ 1 }}")
    assert tokenizer(eos_token_id=None).end_ids == {1}  # <|im_end|> says so itself
    assert tokenizer(eot_token_id=0, eom_token_id=5).end_ids == {0, 1, 5}
    assert tokenizer("llama").end_ids == {2}
    assert tokenizer("bert").end_ids == frozenset()


def test_a_turn_end_of_the_wrong_type_is_a_control_token() -> None:
    metadata = byte_pairs(eos_token_id=None)
    metadata.metadata["tokenizer.ggml.token_type"][1] = 1  # type: ignore[index]
    made = tokenizer_from_gguf(metadata)
    assert made.is_control(1)
    assert made.end_ids == {1}


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
@given(text=st.text(st.sampled_from("ab c가나😀\n<é"), max_size=30))
def test_decoding_gives_the_text_back(kind: str, text: str) -> None:
    made = tokenizer(kind)
    assert decode(made, made.encode(text, parse_special=False)) == text

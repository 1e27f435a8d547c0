"""What is wrong with a GGUF file's tokenizer and chat template; part of an audit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from madang.core.errors import MadangError
from madang.core.messages import Message
from madang.formats.gguf import GGUFFile
from madang.formats.templates.chat_template import ChatTemplate
from madang.formats.tokenizers.detokenizer import decode
from madang.formats.tokenizers.tokenizer import Tokenizer, tokenizer_from_gguf
from madang.formats.tokenizers.vocabulary import TokenKind

Level = Literal["error", "warning", "note"]

_SAMPLES: Final = ("Hello, world! 123", "안녕하세요, 세계! 🙂", "x = {'a': 1}\n\treturn x")
_CONVERSATION: Final = (Message("user", "A question?"), Message("assistant", "An answer."))
_ENCODERS: Final = frozenset({"bert", "t5"})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a file. An error breaks its use, a warning may, a note is good to know."""

    level: Level
    what: str


def audit_tokenizer(gguf: GGUFFile, n_rows: int | None) -> tuple[dict[str, Any], list[Finding]]:
    """What the tokenizer is, and what is wrong with it; ``n_rows`` is how many tokens the model has embeddings for."""
    facts: dict[str, Any] = {
        "kind": gguf.metadata.get("tokenizer.ggml.model"),
        "pre": gguf.metadata.get("tokenizer.ggml.pre"),
        "has_chat_template": isinstance(gguf.metadata.get("tokenizer.chat_template"), str),
    }
    try:
        tokenizer = tokenizer_from_gguf(gguf)
    except MadangError as error:
        return facts, [Finding("error", f"Its tokenizer cannot be used: {error.message}")]
    facts |= {
        "tokens": tokenizer.vocab_size,
        "bos": _shown(tokenizer, tokenizer.bos_id),
        "eos": _shown(tokenizer, tokenizer.eos_id),
        "ends": sorted(tokenizer.token_text(token_id) for token_id in tokenizer.end_ids),
    }
    findings = [*_vocabulary_findings(gguf, tokenizer, n_rows), *_round_trips(tokenizer)]
    if facts["kind"] not in _ENCODERS:
        findings += [*_end_findings(tokenizer), *_template_findings(tokenizer)]
    return facts, findings


def _shown(tokenizer: Tokenizer, token_id: int | None) -> str | None:
    return None if token_id is None else tokenizer.token_text(token_id)


def _vocabulary_findings(gguf: GGUFFile, tokenizer: Tokenizer, n_rows: int | None) -> Iterator[Finding]:
    if n_rows is not None and n_rows != tokenizer.vocab_size:
        level: Level = "error" if n_rows < tokenizer.vocab_size else "warning"
        yield Finding(level, f"The tokenizer has {tokenizer.vocab_size} tokens, but the model {n_rows} embeddings.")
    if gguf.metadata.get("tokenizer.ggml.model") == "gpt2" and "tokenizer.ggml.pre" not in gguf.metadata:
        yield Finding("warning", "It does not say how words are split ('tokenizer.ggml.pre'); a guess gives other ids.")
    if "tokenizer.ggml.token_type" not in gguf.metadata:
        yield Finding("warning", "It does not say which tokens are control tokens ('tokenizer.ggml.token_type').")
    plain = [
        text
        for text, kind in zip(tokenizer.vocabulary.texts, tokenizer.vocabulary.kinds, strict=True)
        if kind == TokenKind.NORMAL and text.startswith("<|") and text.endswith("|>")
    ]
    if plain:
        yield Finding("warning", f"{len(plain)} tokens look like control tokens and are none, first {plain[0]}.")


def _round_trips(tokenizer: Tokenizer) -> Iterator[Finding]:
    """Whether plain text survives; word pieces lose spaces and capitals by design."""
    for text in _SAMPLES:
        ids = tokenizer.encode(text, add_special=False, parse_special=False)
        if tokenizer.vocabulary.unknown_id in ids:
            yield Finding("note", f"Its tokenizer has no tokens for a part of {text!r}.")
        elif not tokenizer.vocabulary.suffix_ids and decode(tokenizer, ids).strip() != text.strip():
            yield Finding("warning", f"Its tokenizer turns {text!r} into {decode(tokenizer, ids)!r}.")


def _end_findings(tokenizer: Tokenizer) -> Iterator[Finding]:
    if tokenizer.eos_id is None:
        yield Finding("warning", "It has no end-of-sequence token: answers end only at their limit.")
    elif not tokenizer.is_control(tokenizer.eos_id):
        text = tokenizer.token_text(tokenizer.eos_id)
        yield Finding("warning", f"Its end-of-sequence token {text!r} is not marked as a control token.")


def _template_findings(tokenizer: Tokenizer) -> Iterator[Finding]:
    if tokenizer.chat_template is None:
        yield Finding("note", "It has no chat template: a base model, or a converter that dropped it.")
        return
    bos, eos = _shown(tokenizer, tokenizer.bos_id), _shown(tokenizer, tokenizer.eos_id)
    try:
        template = ChatTemplate(tokenizer.chat_template, bos, eos)
        rendered = template.render(_CONVERSATION, add_generation_prompt=False)
    except MadangError as error:
        yield Finding("error", f"Its chat template fails on a plain conversation: {error.message}")
        return
    if not all(message.content in rendered for message in _CONVERSATION if isinstance(message.content, str)):
        yield Finding("error", "Its chat template loses what was said.")
        return
    after = tokenizer.encode(rendered.rpartition("An answer.")[2], add_special=False)
    if not tokenizer.end_ids.intersection(after):
        ends = ", ".join(sorted(tokenizer.token_text(token_id) for token_id in tokenizer.end_ids)) or "none"
        yield Finding(
            "error",
            f"Its chat template ends an answer without any of the tokens that end one ({ends}): it may never stop.",
        )

"""What every tokenizer knows about its tokens, whatever the algorithm: texts, kinds, special ids, ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class TokenKind(IntEnum):
    """What a token is for. Numbers as in ``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens by id, and the ids with a meaning of their own.

    texts        as the file writes them, escapes included ("Ġworld", "▁world", "##ing")
    scores       log-probability or rank of SentencePiece tokens, higher wins; empty for other kinds
    prefix_ids   what ``add_special`` puts before a text: usually nothing or the beginning-of-sequence token
    suffix_ids   and what it puts after it
    between_ids  what stands between two texts that are read as one
    second_type  the token type of the second of them; that of all else is 0
    end_ids      every token that ends a generation
    """

    texts: Sequence[str]
    kinds: Sequence[TokenKind]
    scores: Sequence[float] = ()
    bos_id: int | None = None
    eos_id: int | None = None
    unknown_id: int | None = None
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    between_ids: tuple[int, ...] = ()
    second_type: int = 0
    end_ids: frozenset[int] = frozenset()
    chat_template: str | None = None

    def ids_of(self, *kinds: TokenKind) -> dict[str, int]:
        """Text -> id of the tokens of these kinds; a text that occurs twice keeps its first id."""
        found: dict[str, int] = {}
        for token_id in [n for n, kind in enumerate(self.kinds) if kind in kinds]:
            if text := self.texts[token_id]:
                found.setdefault(text, token_id)
        return found


# Control tokens that end a turn or a document, by the text that models give them.
END_TEXTS: Final = frozenset(
    {
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end|>",
        "<|endofturn|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|end_of_turn|>",
        "<|return|>",
        "<|call|>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<EOT>",
        "[EOT]",
        "[EOS]",
        "[|endofturn|]",
        "<eos>",
        "</s>",
        "<｜end▁of▁sentence｜>",
        "<|fim_pad|>",
        "<|repo_name|>",
        "<|file_sep|>",
    }
)
# With these around, "<|end|>" ends a channel of one answer, and the answer goes on (OpenAI's harmony format).
_HARMONY_TEXTS: Final = frozenset({"<|return|>", "<|call|>"})


def end_ids_by_text(controls: Mapping[str, int]) -> frozenset[int]:
    """The ids among ``controls`` whose text says that a turn or a document ends there."""
    ends = END_TEXTS & controls.keys()
    if ends >= _HARMONY_TEXTS:
        ends -= {"<|end|>"}
    return frozenset(controls[text] for text in ends)

r"""How byte-level BPE cuts text into words before merging, by the name that GGUF writes in ``tokenizer.ggml.pre``.

Every rule is a chain of regular expressions; each isolates its matches inside the pieces that the one before left.
The expressions are those of the models' own tokenizer.json files. Which name belongs to which rule, and its defaults,
follows ggml-org/llama.cpp (src/llama-vocab.cpp, convert_hf_to_gguf.py). A name that is not here is refused: a wrong
rule gives plausible text with the wrong ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from madang.core.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    r"""One rule.

    splits         regular expressions (Oniguruma syntax) over the text, in order
    byte_splits    the same, but over the byte alphabet, after every byte became one letter
    nfc            the text is brought to Unicode normal form C first (GGUF does not say; the model's own files do)
    ignore_merges  a word that is itself a token is taken whole, whatever the merges say
    add_bos        whether a beginning-of-sequence token is added when the metadata does not say
    """

    splits: tuple[str, ...]
    byte_splits: tuple[str, ...] = ()
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_PUNCTUATION = r"[\p{P}\$\+<=>\^~\|`]+"
_ASCII_TRIPLE = "[0-9][0-9][0-9]"

_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_SUFFIX}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_SUFFIX}|{_LETTERS}|\p{{N}}|{_REST}"
_QWEN35 = (
    rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SEED_CODER = rf"{_SUFFIX}|{_LETTERS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
_BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
_EXAONE_MOE = (
    rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)

# A capitalised word is one piece, a change from lower to upper case starts the next ("camelCase" -> camel, Case).
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}|{_CASED_REST}"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SUFFIX}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SUFFIX}?"
    rf"|\p{{N}}{{1,3}}|{_CASED_REST}"
)

_CJK = "[一-龥ࠀ-一가-퟿]+"
# Letters that Unicode would normalize into others are written as \x{…}, so that no editor can change them.
_DEEPSEEK_LETTERS = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}"
    r"ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ"
    r"𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
)
_DEEPSEEK3_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_GPT2_RULE = PreTokenizer((_GPT2,))
_DIGITS_RULE = PreTokenizer((_DIGIT, _GPT2))
_LLAMA3_RULE = PreTokenizer((_LLAMA3,))
_QWEN2_RULE = PreTokenizer((_QWEN2,))
_BLOOM_RULE = PreTokenizer((r" ?[^(\s|.,!?…。，、।۔،)]+",))


def _same(names: str, rule: PreTokenizer) -> dict[str, PreTokenizer]:
    return dict.fromkeys(names.split(), rule)


_RULES: dict[str, PreTokenizer] = {
    **_same(
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
        replace(_LLAMA3_RULE, ignore_merges=True, add_bos=True),
    ),
    **_same("dbrx smaug-bpe chatglm-bpe glm4", _LLAMA3_RULE),
    **_same("qwen2 deepseek-r1-qwen stablelm2", replace(_QWEN2_RULE, nfc=True)),
    **_same("megrez hunyuan solar-open grok-2 kormo", _QWEN2_RULE),
    **_same("qwen35", PreTokenizer((_QWEN35,), nfc=True)),
    **_same("gpt-2 phi-2 a.x-4.0 exaone4 gigachat mellum jais trillion granite-docling", _GPT2_RULE),
    **_same("olmo mpt modern-bert", replace(_GPT2_RULE, nfc=True)),
    **_same("smollm starcoder refact codeshell exaone minerva-7b mellum2", _DIGITS_RULE),
    **_same("command-r", replace(_DIGITS_RULE, nfc=True)),
    **_same("tekken", PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True)),
    **_same("gpt-4o llama4 kanana2 minimax-m2", PreTokenizer((_GPT4O,))),
    **_same(
        "deepseek-llm",
        PreTokenizer(("[\r\n]", _DEEPSEEK_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", _CJK, _DIGIT)),
    ),
    **_same("deepseek-coder", PreTokenizer(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, _DIGIT))),
    **_same("deepseek-v3 hunyuan-dense", PreTokenizer((r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK3_WORDS))),
    **_same("falcon", PreTokenizer((_PUNCTUATION, _GPT2), (r"\p{N}+", _ASCII_TRIPLE))),
    **_same("default", PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", _ASCII_TRIPLE))),
    **_same("bloom poro-chat gpt3-finnish", _BLOOM_RULE),
    **_same("viking", replace(_BLOOM_RULE, splits=(*_BLOOM_RULE.splits, _DIGIT))),
    **_same("bailingmoe bailingmoe2 llada-moe", PreTokenizer((_BAILING,))),
    **_same("seed-coder", PreTokenizer((_SEED_CODER,))),
    **_same("exaone-moe", PreTokenizer((_EXAONE_MOE,))),
}


def pretokenizer(name: str) -> PreTokenizer:
    """The rule called ``name``. Raises UnsupportedModel, naming it, when there is none."""
    rule = _RULES.get(name)
    if rule is None:
        raise UnsupportedModel(f"byte-level tokenizers that split words as '{name}' (tokenizer.ggml.pre)")
    return rule


def pretokenizer_names() -> Iterable[str]:
    """Every name that has a rule."""
    return _RULES.keys()

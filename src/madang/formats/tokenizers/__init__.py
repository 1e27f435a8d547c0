"""tokenizers: text -> ids -> text, for every kind of tokenizer in use.

Main path: :func:`tokenizer_from_gguf` or :func:`tokenizer_from_json` -> Tokenizer; Detokenizer turns an answer's tokens
into text. The first docstring to read is tokenizer.py's: how control tokens in people's text are kept harmless.
Invariants: ids equal the reference implementation's; text comes out in whole characters only.
"""

from madang.formats.tokenizers.detokenizer import Detokenizer, decode
from madang.formats.tokenizers.tokenizer import Tokenizer, tokenizer_from_gguf, tokenizer_from_json

__all__ = ["Detokenizer", "Tokenizer", "decode", "tokenizer_from_gguf", "tokenizer_from_json"]

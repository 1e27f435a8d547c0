"""examples: what a model learns from, from files in any of the usual forms to packed tokens.

Main path: :func:`load_examples` -> :func:`split` -> :func:`encode` -> :func:`pack`.
Invariants: loss is taken on answers and the tokens that end them only; a row that is left out is a :class:`Problem`
with its line, or a number in a report.
"""

from madang.training.examples.encoding import NO_LOSS, Encoded, EncodedSet, EncodingReport, TooLong, encode
from madang.training.examples.example import Example, Loaded, Problem
from madang.training.examples.forms import FORMS
from madang.training.examples.packing import Packed, pack
from madang.training.examples.reading import ExampleSource, load_examples, open_examples
from madang.training.examples.splitting import Split, split

__all__ = [
    "FORMS",
    "NO_LOSS",
    "Encoded",
    "EncodedSet",
    "EncodingReport",
    "Example",
    "ExampleSource",
    "Loaded",
    "Packed",
    "Problem",
    "Split",
    "TooLong",
    "encode",
    "load_examples",
    "open_examples",
    "pack",
    "split",
]

"""From a model's files to what runs it: an engine that answers, or an embedder."""

from __future__ import annotations

import time

from madang.core.engine import EngineInfo
from madang.core.errors import MalformedFile, UnsupportedModel
from madang.formats.families import describe_folder, describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.tokenizers import tokenizer_from_gguf, tokenizer_from_json
from madang.hardware import Plan
from madang.models import ModelFiles
from madang.native.embedder import NativeEmbedder
from madang.native.engine import NativeEngine
from madang.native.loader import load_decoder


def load(files: ModelFiles, plan: Plan) -> NativeEngine | NativeEmbedder:
    """Load a model.

    Raises UnsupportedModel for an architecture or type that has no code here, MalformedFile, NotEnoughMemory.
    """
    started = time.perf_counter()
    if files.format == "gguf":
        file = read_gguf(files.path)
        description, tokenizer = describe_gguf(file), tokenizer_from_gguf(file)
    else:
        description, tokenizer = describe_folder(files.path), tokenizer_from_json(files.path)
    n_words = description.spec.vocab_size
    if tokenizer.vocab_size > n_words:
        raise MalformedFile(files.path, f"its tokenizer has {tokenizer.vocab_size} tokens, but its weights {n_words}")
    if description.embedding is None and not description.spec.causal:
        raise UnsupportedModel(f"the encoder {files.name}, which does not say how its states become a vector")
    decoder = load_decoder(files.name, description, plan)
    info = EngineInfo(
        engine="native",
        model=files.name,
        context_tokens=plan.context_tokens.value,
        load_s=time.perf_counter() - started,
    )
    if description.embedding is not None:
        return NativeEmbedder(info, decoder, tokenizer, description.embedding)
    return NativeEngine(info, decoder, tokenizer, files.sampling_defaults, plan.prefill_chunk_tokens.value)

"""From a model's files to what runs it: an engine that answers, an embedder or a reranker."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from madang.core.engine import EngineInfo
from madang.core.errors import InvalidRequest, MalformedFile, UnsupportedModel
from madang.formats.families import describe_folder, describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.spec import DecoderSpec, ModelDescription
from madang.formats.tokenizers import Tokenizer, tokenizer_from_gguf, tokenizer_from_json
from madang.hardware import PageGroups, Plan, page_groups
from madang.models import ModelFiles, ModelFormat
from madang.native.draft_model import DraftModel
from madang.native.embedder import NativeEmbedder
from madang.native.engine import LoadedModel, NativeEngine
from madang.native.loader import load_decoder
from madang.native.pages import pages_for
from madang.native.prefix_file import PrefixFacts, fingerprint
from madang.native.reranker import NativeReranker
from madang.native.scheduler import Limits, Scheduler
from madang.native.speculation import Guesser, NgramGuesser


def load(files: ModelFiles, plan: Plan) -> NativeEngine | NativeEmbedder | NativeReranker:
    """Load a model.

    Raises UnsupportedModel for an architecture or type that has no code here, MalformedFile, NotEnoughMemory,
    InvalidRequest when a draft model has another vocabulary.
    """
    started = time.perf_counter()
    description, tokenizer = read_model(files.path, files.format)
    if description.embedding is None and not (description.spec.causal or description.ranks_pairs):
        raise UnsupportedModel(f"the encoder {files.name}, which does not say how its states become a vector")
    groups = page_groups(description.spec)
    decoder = load_decoder(files.name, description, plan, groups)
    info = EngineInfo(
        engine="native",
        model=files.name,
        context_tokens=plan.context_tokens.value,
        max_concurrency=plan.max_concurrency.value,
        load_s=time.perf_counter() - started,
    )
    if description.ranks_pairs:
        return NativeReranker(info, decoder, tokenizer, description)
    if description.embedding is not None:
        return NativeEmbedder(info, decoder, tokenizer, description.spec, description.embedding)
    model = LoadedModel(
        description=description,
        tokenizer=tokenizer,
        sampling_defaults=files.sampling_defaults,
        trained_tokens=description.spec.context_tokens,
        prefix_facts=PrefixFacts(fingerprint(description), plan.kv_type.value, decoder.page_bytes),
    )
    limits = _limits(description.spec, plan, groups)
    scheduler = Scheduler(decoder, limits, _make_guesser(tokenizer, decoder.page_bytes * groups.n_groups, plan))
    return NativeEngine(info, model, scheduler)


def read_model(path: Path, model_format: ModelFormat) -> tuple[ModelDescription, Tokenizer]:
    if model_format == "gguf":
        file = read_gguf(path)
        description, tokenizer = describe_gguf(file), tokenizer_from_gguf(file)
    else:
        description, tokenizer = describe_folder(path), tokenizer_from_json(path)
    n_words = description.spec.vocab_size
    if tokenizer.vocab_size > n_words:
        raise MalformedFile(path, f"its tokenizer has {tokenizer.vocab_size} tokens, but its weights {n_words}")
    return description, tokenizer


def _limits(spec: DecoderSpec, plan: Plan, groups: PageGroups) -> Limits:
    return Limits(
        chunk_tokens=plan.prefill_chunk_tokens.value,
        concurrency=plan.max_concurrency.value,
        cache_bytes=plan.kv_limit_bytes.value,
        vocab_size=spec.vocab_size,
        long_from=None if spec.long_rope is None else spec.long_rope.from_tokens,
        groups=groups,
    )


def _make_guesser(tokenizer: Tokenizer, column_bytes: int, plan: Plan) -> Callable[[], Guesser] | None:
    """What the plan says of speculation: "off", "ngram" or "draft:<file or folder>". Columns are 16 positions."""
    kind, _, draft = plan.speculation.value.partition(":")
    if kind == "draft":
        n_columns = max(plan.kv_limit_bytes.value // column_bytes, pages_for(plan.context_tokens.value))
        return _load_draft(Path(draft), tokenizer, plan, n_columns).guesser
    return NgramGuesser if kind == "ngram" else None


def _load_draft(path: Path, tokenizer: Tokenizer, plan: Plan, n_columns: int) -> DraftModel:
    """A model that guesses for one with this tokenizer. Raises InvalidRequest when its own is another."""
    description, own = read_model(path, "huggingface" if path.is_dir() else "gguf")
    if own.vocabulary.texts != tokenizer.vocabulary.texts:
        raise InvalidRequest(
            f"The draft model {path.name} has another vocabulary: {own.vocab_size} tokens, not the same "
            f"{tokenizer.vocab_size} as the model.",
            param="speculation",
            hint="Choose a smaller model of the same family.",
        )
    groups = page_groups(description.spec)
    return DraftModel(load_decoder(path.name, description, plan, groups), groups, n_columns)

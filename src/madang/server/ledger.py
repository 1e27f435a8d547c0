"""Where every token of the context went, as every API tells it: a ``madang`` object."""

from __future__ import annotations

from collections.abc import Sequence

from madang.core.events import Done


def ledger_of(done: Done, warnings: Sequence[str] = ()) -> dict[str, object]:
    """Counts of tokens, the seed in use, and what of the request had no effect."""
    ledger = done.ledger
    facts: dict[str, object] = {
        "n_ctx": ledger.n_ctx,
        "received_tokens": ledger.received_tokens,
        "cached_tokens": ledger.cached_tokens,
        "kept_tokens": ledger.kept_tokens,
        "dropped_tokens": ledger.dropped_tokens,
        "generated_tokens": ledger.generated_tokens,
        "seed": done.seed,
    }
    if ledger.dropped_messages or ledger.summarised_messages:
        facts |= {"dropped_messages": ledger.dropped_messages, "summarised_messages": ledger.summarised_messages}
    if ledger.source_tokens or ledger.dropped_sources:
        facts |= {"source_tokens": ledger.source_tokens, "dropped_sources": ledger.dropped_sources}
    return facts | {"warnings": list(warnings)} if warnings else facts

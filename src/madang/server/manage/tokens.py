"""How models cut a text into tokens, from their tokenizers alone: nothing is loaded for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest

from madang.core.errors import ModelNotFound
from madang.models import Store, StoredReference, load_catalog
from madang.runtime.tokens import Cut, Tokenizers, cut
from madang.server.bridge import in_thread
from madang.server.manage.documents import tokens as wire
from madang.server.names import find_reference
from madang.server.scopes import check_manager
from madang.server.wire import State

router = APIRouter()


@router.post("/tokens")
async def cut_text(wanted: wire.TokensRequest, state: State, http: HttpRequest) -> wire.TextTokens:
    """A text in the tokens of several models. Of models of the catalog that are not here, the tokenizer is fetched."""
    references = [find_reference(name, state.store) for name in wanted.models]
    if await in_thread(partial(_must_fetch, state.store, references)):
        await check_manager()
    return await in_thread(partial(_cuts, http.app.state.tokenizers, references, wanted))


def _must_fetch(store: Store, references: Sequence[StoredReference]) -> bool:
    """Whether one of them is not here, but in the catalog: other names would have the server ask places for a client.

    Raises ModelNotFound.
    """
    absent = [reference for reference in references if store.find(reference) is None]
    for reference in absent:
        if load_catalog().find(reference) is None:
            raise store.lost(reference) or ModelNotFound(str(reference))
    return bool(absent)


def _cuts(tokenizers: Tokenizers, references: Sequence[StoredReference], wanted: wire.TokensRequest) -> wire.TextTokens:
    opened = [tokenizers.get(str(reference)) for reference in references]
    cuts = [cut(one, wanted.text, special=wanted.special) for one in opened]
    return wire.TextTokens(n_characters=len(wanted.text), models=[_document(one) for one in cuts])


def _document(one: Cut) -> wire.ModelTokens:
    return wire.ModelTokens(
        name=one.model.name,
        n_tokens=len(one.tokens),
        tokens_per_character=one.tokens_per_character,
        tokens_per_letter=one.by_script,
        context_tokens=one.model.context_tokens,
        context_share=one.context_share,
        vocabulary_size=one.model.tokenizer.vocab_size,
        tokens=[wire.TextToken(**asdict(token)) for token in one.tokens],
    )

"""chat: conversations that last: sessions with their branches, personas, and what happens when a context is full.

Main path: :class:`Sessions` keeps turns in the database; :func:`drop_oldest` and :func:`summarise` make a conversation
fit its context, as its policy says. Invariants: a session is seen by its owner only; nothing of a conversation is
dropped or summarised that the ledger does not tell; what was said is never changed: an edit is a new branch.
"""

from madang.chat.describing import Description, ask_for_description, is_due, read_description
from madang.chat.fitting import POLICIES, ContextPolicy, Fitted, Wanted, drop_oldest, summarise
from madang.chat.personas import Persona, Personas
from madang.chat.sessions import Changes, Session, Sessions, Turn, chained

__all__ = [
    "POLICIES",
    "Changes",
    "ContextPolicy",
    "Description",
    "Fitted",
    "Persona",
    "Personas",
    "Session",
    "Sessions",
    "Turn",
    "Wanted",
    "ask_for_description",
    "chained",
    "drop_oldest",
    "is_due",
    "read_description",
    "summarise",
]

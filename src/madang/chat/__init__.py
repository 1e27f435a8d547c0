"""chat: conversations that last: sessions with their branches, personas, and what happens when a context is full.

Main path: :class:`Sessions` keeps turns in the database; :func:`fit` makes a conversation fit its context, by the
session's policy. Invariants: a session is seen by its owner only; nothing of a conversation is dropped or summarised
that the ledger does not tell; what was said is never changed: an edit is a new branch.
"""

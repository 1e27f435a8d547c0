"""``madang sessions``: conversations that were kept, listed, shown, exported, imported and removed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, note
from madang.core.errors import InvalidRequest

if TYPE_CHECKING:
    from madang.chat import Sessions

MOST_IMPORT_BYTES = 256 << 20
_LIST_LIMIT = 1000

Name = Annotated[str, typer.Argument(metavar="SESSION", help="Its id, or its title.")]
Key = Annotated[
    str, typer.Option("--key", metavar="NAME", help="Sessions of this API key; unset: those made without one.")
]


def list_sessions(
    ctx: typer.Context,
    query: Annotated[
        str | None, typer.Argument(metavar="WORDS", help="Only those in which all of these words were said.")
    ] = None,
    key: Key = "",
    as_json: options.Json = False,
) -> None:
    """List the sessions, the last used first."""
    from madang.chat.transcripts import session_document

    sessions = _sessions(ctx)
    found = sessions.find(key, query or "", limit=_LIST_LIMIT)
    if as_json:
        data_json({"sessions": [session_document(session) for session in found]})
        return
    if not found:
        note(
            "There are none." if query else "There are no sessions yet. Begin one with: madang run MODEL --session NAME"
        )
        others = [owner for owner in sessions.owners() if owner != key]
        if others and not query:
            note(f"Others have some; see --key with one of: {', '.join(owner or repr('') for owner in others)}")
        return
    rows = [
        [session.id, session.title, session.model or "-", f"{session.updated_at.astimezone():%Y-%m-%d %H:%M}"]
        for session in found
    ]
    data_table([["ID", "TITLE", "MODEL", "USED"], *rows])


def show(ctx: typer.Context, name: Name, key: Key = "", as_json: options.Json = False) -> None:
    """Show the conversation of a session."""
    from madang.chat.transcripts import session_document, to_markdown, turn_document

    sessions = _sessions(ctx)
    session = sessions.named(key, name)
    path = sessions.path(key, session.id)
    if as_json:
        data_json(session_document(session) | {"messages": [turn_document(turn) for turn in path]})
    else:
        data(to_markdown(session, path), end="")


def export(
    ctx: typer.Context,
    name: Name,
    *,
    format: Annotated[
        str, typer.Option("--format", metavar="WORD", help="json, with every branch, or markdown, the conversation.")
    ] = "json",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file; unset: standard output.")
    ] = None,
    key: Key = "",
) -> None:
    """Write a session as JSON or Markdown."""
    from madang.chat.transcripts import to_markdown

    sessions, kind = _sessions(ctx), _format(format)
    session = sessions.named(key, name)
    text = _json(sessions, key, session.id) if kind == "json" else to_markdown(session, sessions.path(key, session.id))
    if output is None:
        data(text, end="")
        return
    try:
        with output.open("x", encoding="utf-8") as file:  # never over a file that is there
            file.write(text)
    except FileExistsError:
        raise InvalidRequest(f"{output} exists already; nothing was written.", param="output") from None
    note(f"Wrote {session.title or session.id} to {output}.")


def import_session(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What was exported: JSON or Markdown; - is stdin.")],
    key: Key = "",
    as_json: options.Json = False,
) -> None:
    """Make a session of what was exported."""
    from madang.chat.transcripts import read_transcript, session_document

    transcript = read_transcript(_text(file))
    session = _sessions(ctx).create(key, transcript.changes, transcript.turns)
    if as_json:
        data_json(session_document(session))
        return
    data(session.id)
    note(f"{len(transcript.turns)} messages were read.")


def rm(ctx: typer.Context, name: Name, key: Key = "", as_json: options.Json = False) -> None:
    """Delete a session, with everything that was said in it."""
    sessions = _sessions(ctx)
    session = sessions.named(key, name)
    sessions.remove(key, session.id)
    if as_json:
        data_json({"removed": session.id})
    else:
        note(f"Removed {session.id}{f' ({session.title})' if session.title else ''}.")


def _sessions(ctx: typer.Context) -> Sessions:
    from madang.chat import Sessions
    from madang.storage import DATABASE_FILE, Database

    return Sessions(Database(options.settings_of(ctx).home / DATABASE_FILE))


def _format(word: str) -> Literal["json", "markdown"]:
    match word:
        case "json" | "markdown":
            return word
    raise InvalidRequest(f"--format is '{word}', but must be json or markdown.", param="format")


def _json(sessions: Sessions, key: str, id: str) -> str:
    import json

    from madang.chat.transcripts import to_document

    document = to_document(sessions.get(key, id), sessions.turns(key, id))
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _text(file: Path) -> str:
    raw = sys.stdin.buffer.read(MOST_IMPORT_BYTES + 1) if str(file) == "-" else _bytes(file)
    if len(raw) > MOST_IMPORT_BYTES:
        raise InvalidRequest("The session has more than 268 MB, which is the limit.", param="import")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file} is not UTF-8 text.", param="import") from error


def _bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_IMPORT_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}.", param="import") from error

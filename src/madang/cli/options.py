"""Arguments and options that several verbs share, and the settings that they make."""

from __future__ import annotations

from typing import Annotated

import typer

from madang.core.settings import Settings, Value, load_settings

Model = Annotated[str, typer.Argument(metavar="MODEL", help="name:tag, hf:org/repo[/file], pypi:package or file:path.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", help="Threads that compute.")]
Context = Annotated[
    int | None, typer.Option("--context", metavar="TOKENS", help="Context: prompt and answer together.")
]
Engine = Annotated[str | None, typer.Option("--engine", metavar="NAME", help="Engine that runs the model.")]
Precision = Annotated[
    str | None, typer.Option("--precision", metavar="WORD", help="exact, or fast for quicker prompts.")
]
KvMemory = Annotated[
    str | None, typer.Option("--kv-memory", metavar="SIZE", help="Most memory for the caches of conversations: 2GB.")
]
KvType = Annotated[
    str | None, typer.Option("--kv-type", metavar="WORD", help="f16, or int8 for caches of about half the size.")
]
Speculation = Annotated[
    str | None,
    typer.Option("--speculation", metavar="WORD", help="Guess tokens ahead: ngram, off, or draft:MODEL."),
]


def settings_of(ctx: typer.Context, **command_line: Value) -> Settings:
    """All settings: the options given, over the environment that :func:`madang.cli.main.main` was handed."""
    return load_settings(command_line, ctx.obj)

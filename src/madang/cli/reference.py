"""Writes ``docs/reference/cli.md`` from the command itself: ``python -m madang.cli.reference [--check] [FILE]``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from typer.main import get_command

from madang.cli.main import app
from madang.core.settings import CONFIG_FILE, SETTINGS

DEFAULT_PATH = Path("docs/reference/cli.md")
HEAD = "<!-- Written by `python -m madang.cli.reference`. Change the command, not this file. -->"


def reference() -> str:
    """The whole page."""
    command: Any = get_command(app)
    verbs = command.commands
    parts = [HEAD, "# The command `madang`", command.help, _bullets(f"[`{verb}`](#madang-{verb})" for verb in verbs)]
    parts += [part for name, verb in verbs.items() for part in _verb(name, verb)]
    return "\n\n".join([*parts, _settings(), _exit_statuses()]) + "\n"


def main(args: list[str]) -> int:
    """Write the page; with ``--check``, only say whether the file is what would be written."""
    check = "--check" in args
    names = [arg for arg in args if arg != "--check"]
    path = Path(names[0]) if names else DEFAULT_PATH
    text = reference()
    if check:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return 0
        print(f"{path} is out of date; write it with: python -m madang.cli.reference", file=sys.stderr)
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return 0


def _verb(name: str, verb: Any) -> list[str]:
    """What is said of a verb, and of the verbs below it."""
    below = getattr(verb, "commands", {})
    if below:
        own = f"## madang {name}\n\n{inspect.cleandoc(verb.help)}"
        return [own, *(part for word, inner in below.items() for part in _verb(f"{name} {word}", inner))]
    shown = [param for param in verb.params if not param.hidden]
    arguments = [param for param in shown if param.param_type_name == "argument"]
    options = [param for param in shown if param.param_type_name == "option"]
    words = [param.metavar if param.required else f"[{param.metavar}]" for param in arguments]
    usage = f"    madang {' '.join([name, *words, '[OPTIONS]'])}"
    parts = [f"{'###' if ' ' in name else '##'} madang {name}", inspect.cleandoc(verb.help), usage]
    if arguments:
        parts.append(_bullets(f"`{param.metavar}` {param.help}" for param in arguments))
    return ["\n\n".join([*parts, _bullets(map(_option, options))])]


def _option(param: Any) -> str:
    name = " ".join(
        ["/".join([", ".join(param.opts), *param.secondary_opts]), *([] if param.is_flag else [param.metavar])]
    )
    default = "" if param.default is None or param.is_flag else f" (default {param.default})"
    return f"`{name}` {param.help}{default}"


def _settings() -> str:
    rows = [f"| `{setting.name}` | `{setting.env}` | {setting.help} |" for setting in SETTINGS]
    intro = (
        f"Command line > environment > `{CONFIG_FILE}` in the home folder (keys as below, but for `home`) > default; "
        "`madang doctor` shows each value with where it came from."
    )
    return "\n".join(["## Settings", "", intro, "", "| setting | variable | meaning |", "|---|---|---|", *rows])


def _exit_statuses() -> str:
    statuses = [
        "`0` done",
        "`1` it could not be done: no such model, damaged file, no network, no memory, no disk",
        "`2` what was asked for makes no sense",
        "`70` a fault in madang",
        "`130` stopped with Ctrl-C",
    ]
    return "\n\n".join(
        [
            "## Exit statuses",
            _bullets(statuses),
            'With `--json`, an error is `{"error": {"code", "message", "hint", …}}`.',
        ]
    )


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

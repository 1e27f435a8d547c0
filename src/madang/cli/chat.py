"""The chat in the terminal: reads lines, obeys a few commands, keeps the conversation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

from madang.cli.answering import AnswerOptions, explain_end, show_stream, stats_line
from madang.cli.console import data, dim_note, note, report_error
from madang.cli.keeping import Keeper
from madang.cli.prompting import checked_text
from madang.cli.terminal import ReadLine, line_editor
from madang.core import Done, Engine, MadangError, Message
from madang.core.errors import InvalidRequest, UnknownOption

QUOTES = '"""'
PROMPT, CONTINUATION = ">>> ", "... "

Learn: TypeAlias = Callable[[Done], None]  # hears how fast an answer was


def chat(
    engine: Engine,
    options: AnswerOptions,
    *,
    home: Path,
    stats: bool,
    keeper: Keeper | None = None,
    learn: Learn | None = None,
) -> None:
    """Talk until the person leaves. ``learn`` hears how fast each answer was."""
    info = engine.info
    if keeper is not None and keeper.messages:
        note(f"Going on with '{keeper.session.title}', {len(keeper.messages)} messages so far; /clear begins again.")
    note(f"{info.model} · {info.engine} engine · context {info.context_tokens} tokens · /help shows the commands")
    with line_editor(home) as read_line:
        Chat(engine, options, read_line, stats=stats, keeper=keeper, learn=learn).run()


class Chat:
    """One conversation. ``read_line`` asks the person; it raises EOFError on Ctrl-D, KeyboardInterrupt on Ctrl-C.

    ``keeper`` has what was said before, and keeps what is said now.
    """

    def __init__(
        self,
        engine: Engine,
        options: AnswerOptions,
        read_line: ReadLine,
        *,
        stats: bool = False,
        keeper: Keeper | None = None,
        learn: Learn | None = None,
    ) -> None:
        self.messages: list[Message] = [] if keeper is None else keeper.messages
        self.keeper = keeper
        self.options = options
        self.last: Done | None = None
        self._engine = engine
        self._read_line = read_line
        self._stats = stats
        self._learn = learn

    def run(self) -> None:
        """Turn after turn. Ctrl-C stops an answer or forgets a line; Ctrl-D and /bye leave."""
        while True:
            try:
                self._turn()
            except EOFError:
                data("")
                return
            except KeyboardInterrupt:
                data("")
                note("Ctrl-D or /bye leaves the chat.")
            except MadangError as error:
                report_error(error, as_json=False)

    def ask(self, text: str) -> None:
        """Print the answer to ``text``, and remember both; of a stopped answer, what was shown.

        A question without any answer is forgotten, so the conversation goes on as if it had not been asked.
        """
        shown: list[str] = []
        done: Done | None = None
        self.messages.append(Message("user", text))
        try:
            self.last = done = show_stream(self._engine, self.options.chat_request(self.messages), shown)
        except KeyboardInterrupt:
            note("Stopped." if shown else "\nStopped.")  # a line that was begun has been ended already
            return
        finally:
            if shown:
                self.messages.append(Message("assistant", "".join(shown)))
                if self.keeper is not None:
                    self.keeper.keep(self.messages[-2], self.messages[-1], self._engine.info.model, done)
            else:
                self.messages.pop()
        if not shown:
            note("The model had nothing to say.")
        explain_end(done)
        if self._stats:
            dim_note(stats_line(done))
        if self._learn is not None:
            self._learn(done)

    def _turn(self) -> None:
        line = checked_text(self._read_line(PROMPT), "The message")
        if line.lstrip().startswith(QUOTES):
            self._ask_unless_blank(self._rest_of_quote(line))
        elif line.startswith("/"):
            word, _, argument = line.partition(" ")
            if word not in COMMANDS:
                note("A message that begins with / is sent when a space stands before it.")
                raise UnknownOption("command", word, list(COMMANDS))
            COMMANDS[word].obey(self, argument.strip())
        else:
            self._ask_unless_blank(line)

    def _ask_unless_blank(self, text: str) -> None:
        if text.strip():
            self.ask(text.strip())

    def _rest_of_quote(self, line: str) -> str:
        """Everything up to the closing quotation marks, over as many lines as it takes."""
        text = line.lstrip().removeprefix(QUOTES)
        while not text.rstrip().endswith(QUOTES):
            text += "\n" + checked_text(self._read_line(CONTINUATION), "The message")
        return text.rstrip().removesuffix(QUOTES)


def _help(_: Chat, __: str) -> None:
    for word, command in COMMANDS.items():
        note(f"{f'{word} {command.argument}':<16}{command.help}")
    note(f"{QUOTES}             begins a message of several lines; {QUOTES} at the end of a line ends it")
    note("Ctrl-C stops the answer; Ctrl-D leaves.")


def _system(chat: Chat, text: str) -> None:
    if text:
        chat.options = replace(chat.options, system=text)
    preset = chat.options.preset
    of_model = None if preset is None else preset.system
    note(f"System message: {chat.options.system or of_model or 'none'}")


def _clear(chat: Chat, _: str) -> None:
    chat.messages.clear()
    if chat.keeper is not None:
        chat.keeper.begin_again()
    note("The conversation is forgotten; the system message stays.")


def _show(chat: Chat, _: str) -> None:
    if chat.last is None:
        note("Nothing was answered yet.")
        return
    note(stats_line(chat.last))
    ledger = chat.last.ledger
    note(
        f"context of {ledger.n_ctx}: received {ledger.received_tokens}, dropped {ledger.dropped_tokens}, "
        f"kept {ledger.kept_tokens} ({ledger.cached_tokens} from the cache), "
        f"generated {ledger.generated_tokens}, free {ledger.free_tokens}"
    )


def _save(chat: Chat, name: str) -> None:
    if not name:
        raise InvalidRequest("/save needs a file name.", param="save", hint="For example: /save talk.md or talk.json")
    path = Path(name).expanduser()
    system = [] if chat.options.system is None else [Message("system", chat.options.system)]
    text = (_as_json if path.suffix == ".json" else _as_markdown)([*system, *chat.messages])
    try:
        with path.open("x", encoding="utf-8") as file:  # never over a file that is there
            file.write(text)
    except FileExistsError:
        raise InvalidRequest(f"{path} exists already; nothing was written.", param="save") from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}.", param="save") from error
    note(f"Saved {len(chat.messages)} messages to {path}.")


def _bye(_: Chat, __: str) -> None:
    raise EOFError


def _as_json(messages: list[Message]) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return json.dumps({"messages": turns}, ensure_ascii=False, indent=2) + "\n"


def _as_markdown(messages: list[Message]) -> str:
    return "\n".join(f"**{message.role}**\n\n{message.content}\n" for message in messages)


class Command(NamedTuple):
    """A word that begins with a slash, and what it does to the chat."""

    obey: Callable[[Chat, str], None]
    argument: str
    help: str


COMMANDS: dict[str, Command] = {
    "/help": Command(_help, "", "shows this"),
    "/system": Command(_system, "[TEXT]", "sets the system message, or shows it"),
    "/clear": Command(_clear, "", "forgets the conversation"),
    "/show": Command(_show, "", "shows speed and where the tokens of the last answer went"),
    "/save": Command(_save, "FILE", "saves the conversation as Markdown, or as JSON when FILE ends in .json"),
    "/bye": Command(_bye, "", "leaves"),
}

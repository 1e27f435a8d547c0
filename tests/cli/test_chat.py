"""The chat, with a person played by a list of lines."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from madang.cli.answering import AnswerOptions
from madang.cli.chat import COMMANDS, Chat
from madang.cli.terminal import line_editor
from madang.core import Done, EngineInfo, Event, Message, Request
from madang.engines.echo import EchoEngine

CTRL_C, CTRL_D = KeyboardInterrupt, EOFError


class Person:
    """Types these lines; an exception in the list is a key combination. Then leaves with Ctrl-D."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        self._lines = iter((*lines, CTRL_D))
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        line = next(self._lines)
        if isinstance(line, str):
            return line
        raise line


def talk(*lines: str | type[BaseException], context_tokens: int | None = None, **options: object) -> Chat:
    engine = EchoEngine("twin", context_tokens)
    chat = Chat(engine, AnswerOptions(**options), Person(*lines))  # type: ignore[arg-type]
    chat.run()
    return chat


def test_turns_are_answered_and_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    chat = talk("안녕", "", "   ", " two ")
    assert capsys.readouterr().out == "안녕\ntwo\n\n"
    assert [(message.role, message.content) for message in chat.messages] == [
        ("user", "안녕"),
        ("assistant", "안녕"),
        ("user", "two"),
        ("assistant", "two"),
    ]


def test_a_message_in_quotes_has_several_lines() -> None:
    person = Person('"""first', "", 'last"""', '"""one"""', '  """', "/help", '"""')
    chat = Chat(EchoEngine(), AnswerOptions(), person)
    chat.run()
    assert [message.content for message in chat.messages[::2]] == ["first\n\nlast", "one", "/help"]
    assert person.prompts[:3] == [">>> ", "... ", "... "]


def test_ctrl_c_at_the_prompt_forgets_the_line_and_stays(capsys: pytest.CaptureFixture[str]) -> None:
    chat = talk(CTRL_C, '"""begun', CTRL_C, "hello")
    assert [message.content for message in chat.messages] == ["hello", "hello"]
    assert capsys.readouterr().err == "Ctrl-D or /bye leaves the chat.\n" * 2


class Interrupted(EchoEngine):
    """Ctrl-C comes after the first piece of the answer."""

    def generate(self, request: Request) -> Iterator[Event]:
        events = super().generate(request)
        yield next(events)
        if request.messages[-1].content.startswith("long"):
            raise KeyboardInterrupt
        yield from events


def test_ctrl_c_stops_the_answer_and_keeps_what_was_shown(capsys: pytest.CaptureFixture[str]) -> None:
    chat = Chat(Interrupted(), AnswerOptions(), Person("long story", "next"))
    chat.run()
    assert [message.content for message in chat.messages] == ["long story", "l", "next", "next"]
    assert capsys.readouterr() == ("l\nnext\n\n", "Stopped.\n")


def test_a_question_that_does_not_fit_is_forgotten_and_the_chat_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    chat = talk("x" * 200, "short", context_tokens=40)
    assert [message.content for message in chat.messages] == ["short", "short"]
    assert "Error: The prompt has" in capsys.readouterr().err


def test_bye_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    assert talk("/bye", "never said").messages == []


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    talk("/help")
    told = capsys.readouterr().err
    assert all(word in told for word in COMMANDS)
    assert '"""' in told


def test_an_unknown_command_is_a_sentence_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    chat = talk("/claer", " /etc/passwd is a file")
    told = capsys.readouterr().err
    assert "There is no command named '/claer'." in told
    assert "Did you mean /clear?" in told
    assert chat.messages[0].content == "/etc/passwd is a file"


def test_clear_forgets_the_conversation_but_not_the_system_message() -> None:
    chat = talk("one", "/clear", "two", system="Be brief.")
    assert [message.content for message in chat.messages] == ["two", "two"]
    assert chat.options.system == "Be brief."


def test_the_system_message_can_be_set_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    chat = talk("/system", "/system 짧게 답해라", "/system", "hello")
    told = capsys.readouterr().err.splitlines()
    assert told[:3] == ["System message: none", "System message: 짧게 답해라", "System message: 짧게 답해라"]
    assert chat.options.chat_request(chat.messages).messages[0] == Message("system", "짧게 답해라")


def test_show_tells_where_the_tokens_went(capsys: pytest.CaptureFixture[str]) -> None:
    talk("/show", "hello", "/show")
    told = capsys.readouterr().err
    assert told.startswith("Nothing was answered yet.\n")
    assert "context of 4096: received 6, dropped 0, kept 6 (0 from the cache), generated 3, free 4087" in told


@pytest.mark.parametrize("name", ["talk.md", "talk.json"])
def test_save_writes_the_conversation_and_never_over_a_file(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    talk("안녕", f"/save {path}", f"/save {path}", "/save", f"/save {tmp_path}/no/folder.md", system="Be kind.")
    text = path.read_text(encoding="utf-8")
    if name.endswith("json"):
        assert json.loads(text)["messages"] == [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "안녕"},
            {"role": "assistant", "content": "안녕"},
        ]
    else:
        assert text == "**system**\n\nBe kind.\n\n**user**\n\n안녕\n\n**assistant**\n\n안녕\n"
    told = capsys.readouterr().err
    for line in (
        "Saved 2 messages",
        "exists already; nothing was written",
        "/save needs a file name",
        "cannot be written",
    ):
        assert line in told


def test_an_answer_of_nothing_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    chat = talk("hello", stop=("h",))
    assert chat.messages == []
    assert "The model had nothing to say." in capsys.readouterr().err


def test_stats_follow_every_answer(capsys: pytest.CaptureFixture[str]) -> None:
    Chat(EchoEngine(), AnswerOptions(), Person("one", "two"), stats=True).run()
    assert capsys.readouterr().err.count("first token") == 2


def test_an_engine_says_what_it_is_to_the_chat() -> None:
    assert EchoEngine("twin").info == EngineInfo("echo", "twin", 4096)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


@pytest.mark.usefixtures("terminal")
def test_the_history_is_kept_under_home_and_private(tmp_path: Path) -> None:
    readline = pytest.importorskip("readline")
    home = tmp_path / "home"
    with line_editor(home):
        readline.clear_history()
        readline.add_history("어제의 질문")
    readline.clear_history()
    assert (home / "chat_history").stat().st_mode & 0o077 == 0
    with line_editor(home):
        assert readline.get_history_item(1) == "어제의 질문"
    readline.clear_history()


@pytest.mark.usefixtures("terminal")
def test_a_home_that_cannot_be_written_does_not_stop_the_chat(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with line_editor(blocked / "home") as read_line:
        assert read_line is input


def test_the_prompt_stays_out_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    with line_editor(tmp_path) as read_line:
        assert read_line(">>> ") == "hello"
    assert capsys.readouterr() == ("", ">>> ")


def test_every_answer_is_heard_of() -> None:
    heard: list[Done] = []
    Chat(EchoEngine(), AnswerOptions(), Person("one", "two"), learn=heard.append).run()
    assert [done.usage.completion_tokens > 0 for done in heard] == [True, True]

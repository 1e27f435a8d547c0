"""Conversations on the page, as people have them."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.request import Request, urlopen

from tests.e2e.conftest import Visit, expect
from tests.e2e.serving import ServerProcess

LONG = "Write a long story about an old river and the people who live beside it, in many paragraphs."


def asked(server: ServerProcess, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the server says of itself, past the page."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(server.url + path, data=data), timeout=30) as answer:
        return json.load(answer)


def conversation(server: ServerProcess, *messages: str) -> str:
    """A session of questions and answers in turn; its id."""
    said = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(messages)]
    id: str = asked(
        server, "/madang/v1/sessions/import", {"document": {"session": {"title": messages[0][:60]}, "messages": said}}
    )["id"]
    return id


def questions(page: Any, text: str) -> Any:
    """What was asked in these words and is shown."""
    return page.get_by_label("You", exact=True).filter(has_text=text)


def growing(page: Any, length: int) -> str:
    """The text of an answer that is still coming, once it has this many characters."""
    answer = page.locator("article[aria-busy=true]", has_text=re.compile(rf"^[\s\S]{{{length}}}"))
    answer.wait_for(timeout=20_000)
    text: str = answer.inner_text()
    return text


def test_an_answer_streams(visit: Visit) -> None:
    page = visit.open()
    visit.ask(LONG, to_end=False)
    begun = growing(page, 20)
    assert len(growing(page, len(begun) + 20)) > len(begun)
    assert re.search(r"/chat/ses_\w+$", page.url)
    page.get_by_label("Stop").click()


def test_an_answer_tells_its_ledger(visit: Visit) -> None:
    page = visit.open()
    visit.ask("What is the capital of France?")
    figures = page.get_by_title("Where the tokens went")
    expect(figures).to_contain_text("tokens/s")
    expect(figures).to_contain_text("first after")
    figures.click()
    page.get_by_text(re.compile(r"of 2,048 tokens of the context")).wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="What is the capital of France?").wait_for()


def test_stop_ends_the_answer_here_and_there(visit: Visit, server: ServerProcess) -> None:
    page = visit.open()
    visit.ask(LONG, to_end=False)
    growing(page, 20)
    page.get_by_label("Stop").click()
    page.get_by_text("This answer was cut off.").wait_for()
    visit.wait_for_end()
    session = asked(server, f"/madang/v1/sessions/{page.url.rpartition('/')[2]}")
    assert [message["state"] for message in session["messages"]] == ["whole", "partial"]
    expect(visit.answer).to_contain_text(session["messages"][1]["content"].strip()[:20])


def test_a_reload_keeps_the_session_and_the_draft(visit: Visit) -> None:
    page = visit.open()
    visit.ask("Say hello.")
    answer = visit.answer.inner_text().strip().splitlines()[0]
    page.get_by_label("Message", exact=True).fill("not sent yet")
    page.reload()
    visit.wait_for_end()
    expect(visit.answer).to_contain_text(answer)
    assert page.get_by_label("Message", exact=True).input_value() == "not sent yet"


def test_another_answer_and_an_edit_are_branches(visit: Visit, server: ServerProcess) -> None:
    page = visit.open(f"/chat/{conversation(server, 'Say one.', 'One.')}")
    page.get_by_label("Answer again").click()
    page.get_by_role("group", name="Branch 2 of 2").wait_for(timeout=20_000)
    page.get_by_label("The branch before").click()
    page.get_by_role("group", name="Branch 1 of 2").wait_for()
    expect(visit.answer.first).to_contain_text("One.")
    questions(page, "Say one.").hover()
    page.get_by_label("Edit", exact=True).click()
    page.get_by_role("textbox", name="Edit").fill("Say two.")
    page.get_by_role("button", name="Send as a new branch").click()
    questions(page, "Say two.").wait_for()
    visit.wait_for_end()
    page.get_by_label("The branch before").first.click()
    questions(page, "Say one.").wait_for()
    questions(page, "Say two.").wait_for(state="detached")


def test_enter_within_a_korean_syllable_does_not_send(visit: Visit) -> None:
    page = visit.open()
    field = page.get_by_label("Message", exact=True)
    keyboard = visit.context.new_cdp_session(page)
    field.focus()
    keyboard.send("Input.imeSetComposition", {"text": "안녕", "selectionStart": 2, "selectionEnd": 2})
    field.evaluate(
        "e => e.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    assert field.input_value() == "안녕" and page.url == f"{visit.url}/"
    keyboard.send("Input.insertText", {"text": "안녕"})
    page.keyboard.press("Shift+Enter")
    assert field.input_value() == "안녕\n"
    page.keyboard.press("Enter")
    page.wait_for_url("**/chat/ses_*")
    page.keyboard.press("Escape")


def test_a_server_that_is_started_again_is_found_again(visit: Visit, server: ServerProcess) -> None:
    page = visit.open(f"/chat/{conversation(server, 'Say one.', 'One.')}")
    server.stop()
    try:
        visit.ask("Say two.", to_end=False)
        page.get_by_text("The server does not answer. Trying again by itself").wait_for()
        page.get_by_role("button", name="Try again").wait_for()
    finally:
        server.start()
    page.get_by_text("The server does not answer. Trying again by itself").wait_for(state="detached")
    page.get_by_role("button", name="Try again").click()
    page.get_by_label("Answer again").nth(1).wait_for(timeout=20_000)
    assert questions(page, "Say two.").count() == 1
    expect(visit.answer).to_have_count(2)


def test_a_full_context_offers_what_can_be_done(visit: Visit, server: ServerProcess) -> None:
    page = visit.open(f"/chat/{conversation(server, 'word ' * 1800, 'Yes.', 'word ' * 1200, 'Yes.')}")
    visit.ask("Say one.", to_end=False)
    page.get_by_text("The context is full").wait_for()
    page.get_by_text("holds 2,048").wait_for()
    page.get_by_role("button", name="Leave out the oldest").click()
    page.get_by_text("The context is full").wait_for(state="detached")
    page.locator("article[aria-busy=true]").wait_for(state="detached", timeout=20_000)
    page.get_by_title("Where the tokens went").last.click()
    page.get_by_text("messages were left out").wait_for()
    page.keyboard.press("Escape")


def test_a_deleted_conversation_can_be_had_back(visit: Visit, server: ServerProcess) -> None:
    id = conversation(server, "Keep me please.", "Yes.")
    page = visit.open(f"/chat/{id}")
    page.get_by_label("More for “Keep me please.”").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("link", name="Keep me please.").wait_for(state="detached")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("link", name="Keep me please.").wait_for()
    assert asked(server, f"/madang/v1/sessions/{id}")["id"] == id


def test_two_thousand_messages_are_not_all_in_the_page(visit: Visit, server: ServerProcess) -> None:
    said = [f"Message {n}, with **some** text. " * (1 + n % 7) for n in range(2000)]
    page = visit.open(f"/chat/{conversation(server, *said)}")
    page.get_by_text("Message 1999, with").first.wait_for()
    assert page.locator("article").count() < 60
    list_ = page.get_by_role("log")
    list_.focus()
    page.keyboard.press("Home")
    page.get_by_text("Message 0, with").first.wait_for()
    assert page.locator("article").count() < 60
    page.get_by_role("button", name="To the end").click()
    page.get_by_text("Message 1999, with").first.wait_for()


def test_what_a_model_writes_is_never_html(visit: Visit, server: ServerProcess) -> None:
    evil = (
        "<img src=x onerror=alert(1)> <script>alert(2)</script> ![p](https://example.org/p.png) "
        "[a](javascript:alert(3)) [b](https://example.org/)\n\n<iframe src='https://example.org'></iframe>"
    )
    visit.open(f"/chat/{conversation(server, 'Be evil.', evil)}")
    answer = visit.answer
    answer.get_by_text("<script>alert(2)</script>").wait_for()
    assert answer.locator("img, script, iframe").count() == 0
    links = answer.locator("a")
    assert [link.get_attribute("href") for link in links.all()] == ["https://example.org/p.png", "https://example.org/"]
    assert {link.get_attribute("rel") for link in links.all()} == {"noopener noreferrer nofollow"}


def test_code_and_formulas_are_drawn(visit: Visit, server: ServerProcess) -> None:
    shown = "Let $x^2$ be.\n\n```python\ndef f():\n    return 1\n```\n\n$$\\int_0^1 x\\,dx$$"
    page = visit.open(f"/chat/{conversation(server, 'Show me.', shown)}")
    page.locator(".hljs-keyword").first.wait_for()
    page.locator(".katex-display").wait_for()
    expect(page.locator(".katex")).to_have_count(2)

"""Modelfiles: Ollama's template is the model's own, or is not stated."""

from __future__ import annotations

import re

import pytest

from madang.core.messages import Message
from madang.core.sampling import SamplingParams
from madang.formats.templates import ChatTemplate
from madang.formats.templates.chat_template import CHATML
from madang.formats.tokenizers import Tokenizer
from madang.training.exporting import Reference
from madang.training.exporting.modelfile import modelfile, turns_of

DEFAULT = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe \"kind\".<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMING = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + (m['content'] | trim) + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}{{ '<turn>' + m['role'] + '\n' + m['content'] + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)
COUNTING = "{% for m in messages %}{{ loop.index }}: {{ m['content'] }}\n{% endfor %}"


@pytest.fixture
def tokenizer(reference: Reference) -> Tokenizer:
    return reference.tokenizer


@pytest.mark.parametrize("source", [CHATML, DEFAULT, TRIMMING, NO_SYSTEM])
def test_the_pieces_write_what_the_template_writes(source: str, tokenizer: Tokenizer) -> None:
    template = ChatTemplate(source, "<s>", "</s>")
    turns = turns_of(template, tokenizer)
    assert turns is not None
    conversation = [Message("user", "one"), Message("assistant", "two"), Message("user", "three")]
    assert turns.render(conversation) == template.render(conversation).removeprefix("<s>")
    assert (turns.system is None) == (source == NO_SYSTEM)
    if turns.system is not None:
        begun = [Message("system", "zero"), *conversation]
        assert turns.render(begun) == template.render(begun).removeprefix("<s>")


def test_in_go_s_language(tokenizer: Tokenizer) -> None:
    """Each text of the template is a quoted literal; its actions are those few."""
    turns = turns_of(ChatTemplate(DEFAULT, "<s>", "</s>"), tokenizer)
    assert turns is not None
    go = turns.to_go()
    assert '{{ "<|im_start|>system\\nBe \\"kind\\".<|im_end|>\\n" }}' in go
    actions = re.findall(r"{{ (.*?) }}", go)
    assert "".join(f"{{{{ {action} }}}}" for action in actions) == go
    kinds = {action.split()[0] for action in actions if not action.startswith('"')}
    assert kinds == {"if", "else", "end", "range", ".Content"}
    opened = sum(action.split()[0] in ("if", "range") for action in actions)
    assert opened == actions.count("end")


def test_what_ollama_would_drop_is_escaped(tokenizer: Tokenizer) -> None:
    """Its reader of Modelfiles keeps what can be printed; of spaces, only the plain one."""
    wide = "{% for m in messages %}{{ '\u3000' + m['role'] + '\u00a0' + m['content'] + '\u200b\n' }}{% endfor %}"
    turns = turns_of(ChatTemplate(wide), tokenizer)
    assert turns is not None
    assert turns.to_go().isprintable()
    assert '"\\U00003000user\\U000000a0"' in turns.to_go()


def test_a_template_of_another_kind(tokenizer: Tokenizer) -> None:
    assert turns_of(ChatTemplate(COUNTING), tokenizer) is None
    assert "cannot be said in Go" in modelfile("./a.gguf", tokenizer, None)


def test_the_whole(tokenizer: Tokenizer) -> None:
    turns = turns_of(ChatTemplate(CHATML), tokenizer)
    text = modelfile(
        "smollm2:135m", tokenizer, turns, adapter="./adapter.gguf", sampling=SamplingParams(temperature=0.2, top_k=40)
    )
    lines = text.splitlines()
    assert lines[:2] == ["FROM smollm2:135m", "ADAPTER ./adapter.gguf"]
    assert lines[2].startswith('TEMPLATE """') and lines[2].endswith('"""')
    assert lines[3:] == ['PARAMETER stop "</s>"', "PARAMETER temperature 0.2", "PARAMETER top_k 40"]

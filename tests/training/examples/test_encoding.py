"""Loss is taken on what a model has to say itself, in every dialect, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from madang.core.errors import InvalidRequest
from madang.core.messages import Message, Tool, ToolCall
from madang.formats.gguf import read_gguf
from madang.formats.templates import ChatTemplate, template_for
from madang.formats.templates.chat_template import CHATML, PLAIN
from madang.formats.tokenizers import Tokenizer, tokenizer_from_gguf
from madang.training.examples import NO_LOSS, Encoded, Example, encode
from tests.formats.vocabularies import BYTE_LETTERS, CONTROL, NORMAL, metadata
from tests.parity import dialects

_CONTROLS = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
]
# Without the line by which the parity tests see a variable.
TEMPLATES = {name: source.replace("{{- '%d|' % ns.last_user }}", "") for name, source in dialects.TEMPLATES.items()}
QUESTION, ANSWER = Message("user", "두 번째 질문? <|im_end|>"), Message("assistant", "답 <|im_end|> hello.")
FIRST = (Message("user", "hello?"), Message("assistant", "hell\n\nhello"))
SYSTEM = Message("system", "Be brief.")
# Behind the answer, what a model of this family ends its turn with; in front, what the prompt leaves to it.
TURNS = {
    "chatml": ("", "<|im_end|>"),
    "llama3": ("", "<|eot_id|>"),
    "mistral": (" ", "</s>"),
    "gemma": ("", "<end_of_turn>"),
    "phi3": ("", "<|end|>"),
    "zephyr": ("", "</s>"),
    "qwen tools": ("", "<|im_end|>"),
}
QWEN3_LIKE = """
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' }}
{%- if message.role == 'assistant' and loop.last %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{{- message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""
OPENS_REASONING = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokens = [(text, CONTROL) for text in _CONTROLS]
    tokens += [(text, NORMAL) for text in [*BYTE_LETTERS, "he", "ll", "hell", "Ġh", "ĊĊ"]]
    merges = ["h e", "l l", "he ll", "Ġ h", "Ċ Ċ"]
    keys = {"pre": "gpt-2", "merges": merges, "bos_token_id": 0, "eos_token_id": 1}
    return tokenizer_from_gguf(metadata("gpt2", tokens, **keys))


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, "<s>", "</s>")


def text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return b"".join(tokenizer.token_bytes(int(i)) for i in ids).decode()


def learnt(tokenizer: Tokenizer, item: Encoded) -> list[str]:
    """The runs of tokens on which loss is taken, as text."""
    assert item.input_ids.dtype == item.labels.dtype == np.int32
    taken = item.labels != NO_LOSS
    assert (item.labels[taken] == item.input_ids[taken]).all()
    edges = np.flatnonzero(np.diff(np.concatenate(([False], taken, [False])).astype(np.int8)))
    return [text(tokenizer, item.input_ids[a:b]) for a, b in edges.reshape(-1, 2)]


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_answer_and_its_end(tokenizer: Tokenizer, family: str) -> None:
    before, after = TURNS[family]
    made = encode([Example((QUESTION, ANSWER))], tokenizer, template(TEMPLATES[family]), max_tokens=500)
    (item,) = made.items
    assert learnt(tokenizer, item) == [before + ANSWER.content + after]
    assert made.report.without_end == made.report.unlike_running == 0
    assert made.report.loss_tokens == (item.labels != NO_LOSS).sum()


@pytest.mark.parametrize("family", TEMPLATES)
def test_what_comes_before_an_answer_is_the_prompt_of_running(tokenizer: Tokenizer, family: str) -> None:
    system = () if family == "gemma" else (SYSTEM,)
    chat = template(TEMPLATES[family])
    (item,) = encode([Example((*system, QUESTION, ANSWER))], tokenizer, chat, max_tokens=500).items
    prompt = tokenizer.encode_chat(chat.render((*system, QUESTION), guard=tokenizer.guard))
    begin = int(np.flatnonzero(item.labels != NO_LOSS)[0])
    assert item.input_ids[:begin].tolist() == prompt
    assert text(tokenizer, item.input_ids[begin:]).strip().startswith(ANSWER.content)


@pytest.mark.parametrize("family", TEMPLATES)
def test_every_answer_of_a_conversation_once(tokenizer: Tokenizer, family: str) -> None:
    before, after = TURNS[family]
    items = encode([Example((*FIRST, QUESTION, ANSWER))], tokenizer, template(TEMPLATES[family]), max_tokens=900).items
    found = sorted(run for item in items for run in learnt(tokenizer, item))
    assert found == sorted(before + said.content + after for said in (FIRST[1], ANSWER))


def test_words_of_the_prompt_never_merge_with_the_answers(tokenizer: Tokenizer) -> None:
    """Encoded together, this tokenizer cuts the line breaks behind the heading in another way than alone."""
    chat = template(TEMPLATES["llama3"])
    prompt = chat.render((QUESTION,), guard=tokenizer.guard)
    together = tokenizer.encode_chat(chat.render((QUESTION, ANSWER), add_generation_prompt=False))
    assert together[: len(tokenizer.encode_chat(prompt))] != tokenizer.encode_chat(prompt)
    (item,) = encode([Example((QUESTION, ANSWER))], tokenizer, chat, max_tokens=500).items
    assert item.input_ids[: len(tokenizer.encode_chat(prompt))].tolist() == tokenizer.encode_chat(prompt)


def test_one_sequence_where_the_template_lets_turns_be(tokenizer: Tokenizer) -> None:
    (item,) = encode([Example((*FIRST, QUESTION, ANSWER))], tokenizer, template(CHATML), max_tokens=500).items
    assert len(learnt(tokenizer, item)) == 2


def test_an_answer_that_looks_different_later_is_learnt_as_it_is_generated(tokenizer: Tokenizer) -> None:
    made = encode([Example((*FIRST, QUESTION, ANSWER))], tokenizer, template(QWEN3_LIKE), max_tokens=500)
    thinks = "<think>\n\n</think>\n\n"
    assert [learnt(tokenizer, item) for item in made.items] == [
        [f"{thinks}{FIRST[1].content}<|im_end|>"],
        [f"{thinks}{ANSWER.content}<|im_end|>"],
    ]
    assert (made.report.examples, made.report.items) == (1, 2)


def test_a_prompt_that_opens_reasoning_is_counted(tokenizer: Tokenizer) -> None:
    made = encode([Example((QUESTION, ANSWER))], tokenizer, template(OPENS_REASONING), max_tokens=500)
    assert learnt(tokenizer, made.items[0]) == [ANSWER.content + "<|im_end|>"]
    assert made.report.unlike_running == 1


def test_a_template_without_an_end_is_counted(tokenizer: Tokenizer) -> None:
    endless = template("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}")
    made = encode([Example((QUESTION, ANSWER))], tokenizer, endless, max_tokens=500)
    assert made.report.without_end == 1


def test_the_template_for_models_without_one(tokenizer: Tokenizer) -> None:
    (item,) = encode([Example((QUESTION, ANSWER))], tokenizer, template(PLAIN), max_tokens=500).items
    assert learnt(tokenizer, item) == [ANSWER.content + "</s>"]


def test_calls_of_tools_are_learnt_and_their_results_are_not(tokenizer: Tokenizer) -> None:
    call = Message("assistant", "", (ToolCall("1", "weather", {"city": "서울"}),))
    turns = (QUESTION, call, Message("tool", "맑음", tool_call_id="1", name="weather"), ANSWER)
    example = Example(turns, tools=(Tool("weather"),))
    items = encode([example], tokenizer, template(TEMPLATES["qwen tools"]), max_tokens=900).items
    found = [run for item in items for run in learnt(tokenizer, item)]
    assert any('"name": "weather", "arguments"' in run for run in found) and not any("맑음" in run for run in found)


def test_what_a_template_refuses_is_a_problem_with_its_line(tokenizer: Tokenizer) -> None:
    refused = Example((SYSTEM, QUESTION, ANSWER), line=7)
    made = encode([refused, Example((QUESTION, ANSWER))], tokenizer, template(TEMPLATES["gemma"]), max_tokens=500)
    assert len(made.items) == 1
    assert [(p.line, "System role not supported" in p.sentence) for p in made.report.problems] == [(7, True)]


def test_plain_text_is_learnt_whole_and_ends(tokenizer: Tokenizer) -> None:
    (item,) = encode([Example(text="hello <|im_end|>")], tokenizer, template(CHATML), max_tokens=100).items
    assert item.labels[0] == NO_LOSS and (item.labels[1:] == item.input_ids[1:]).all()
    assert item.input_ids[-1] == tokenizer.eos_id
    assert tokenizer.control_ids("<|im_end|>")["<|im_end|>"] not in item.input_ids


@pytest.mark.parametrize(("policy", "n_items"), [("drop", 1), ("cut", 2), ("split", 1)])
def test_what_is_too_long(tokenizer: Tokenizer, policy: str, n_items: int) -> None:
    long = Example((QUESTION, Message("assistant", "hello " * 100)), line=3)
    made = encode([Example(FIRST), long], tokenizer, template(CHATML), max_tokens=120, too_long=policy)  # type: ignore[arg-type]
    assert made.report.too_long == 1 and len(made.items) == n_items
    assert all(len(item.input_ids) <= 120 for item in made.items)


def test_a_question_that_fills_everything_leaves_nothing_to_learn(tokenizer: Tokenizer) -> None:
    long = Example((Message("user", "hello " * 100), ANSWER))
    assert encode([long], tokenizer, template(CHATML), max_tokens=50, too_long="cut").items == []


def test_long_plain_text_in_parts(tokenizer: Tokenizer) -> None:
    example = Example(text="abc" * 40)
    items = encode([example], tokenizer, template(CHATML), max_tokens=50, too_long="split").items
    assert text(tokenizer, [i for item in items for i in item.input_ids]) == "abc" * 40 + "</s>"
    assert all(item.labels[0] == NO_LOSS for item in items)


def test_refusing_says_where(tokenizer: Tokenizer) -> None:
    long = Example((QUESTION, Message("assistant", "hello " * 100)), line=3)
    with pytest.raises(InvalidRequest, match=r"1 examples .* line 3"):
        encode([long], tokenizer, template(CHATML), max_tokens=120, too_long="refuse")


def test_the_starter(starter_gguf: Path) -> None:
    tokenizer = tokenizer_from_gguf(read_gguf(starter_gguf))
    (item,) = encode([Example((*FIRST, QUESTION, ANSWER))], tokenizer, template_for(tokenizer), max_tokens=500).items
    assert learnt(tokenizer, item) == [said.content + "<|im_end|>" for said in (FIRST[1], ANSWER)]

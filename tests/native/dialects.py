"""Tiny models with control tokens and a chat template of their own, written from what models' cards say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.parity.checkpoints import BYTE_TOKENS, TinyModel, gguf, write_checkpoint

_CHAT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
_TOOLS = "{% if tools %}{% for t in tools %}{{ t.function | tojson }}{% endfor %}"
HERMES = _TOOLS + "Answer with <tool_call>{...}</tool_call>.{% endif %}" + _CHAT
LLAMA3 = _TOOLS + "Environment: ipython{% endif %}" + _CHAT
MISTRAL = _TOOLS + "{% endif %}" + _CHAT + "{% if false %}[TOOL_CALLS]{% endif %}"
MISTRAL_NAMED = MISTRAL + "{% if false %}[ARGS]{% endif %}"
PHI = _TOOLS + "<|tool_call|>{% endif %}" + _CHAT
PYTHONIC = _TOOLS + "Write [func_name1(a=1), func_name2()].{% endif %}" + _CHAT
FENCED = _TOOLS + "Write ```tool_code blocks.{% endif %}" + _CHAT
UNKNOWN = _TOOLS + "{% endif %}" + _CHAT
NO_TOOLS = _CHAT
SWITCH = (
    _CHAT
    + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n{% else %}<think>\n{% endif %}"
)
ALWAYS = _CHAT + "<think>\n"
MARKERS = (
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|tool_call|>",
    "<|/tool_call|>",
    "<think>",
    "</think>",
)


def write_model(path: Path, template: str, *, controls: bool) -> Path:
    """A random model; the dialects' markers are control tokens or only text."""
    model = TinyModel("dialect", vocab_size=BYTE_TOKENS + len(MARKERS), n_embd=48, n_ff=64, head_dim=16)

    def vocabulary(writer: Any) -> None:
        types = gguf.TokenType
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *MARKERS]
        kinds = [types.UNKNOWN, types.CONTROL, types.CONTROL, *[types.BYTE] * 256]
        kinds += [types.CONTROL if controls else types.UNUSED] * len(MARKERS)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(
            tokens if controls else tokens[:BYTE_TOKENS] + [f"<unused{n}>" for n in range(len(MARKERS))]
        )
        writer.add_token_scores([0.0] * len(tokens))
        writer.add_token_types(kinds)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_space_prefix(False)
        writer.add_chat_template(template)

    return write_checkpoint(model, path, edit=vocabulary).path

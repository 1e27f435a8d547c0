"""A server as a user starts it: ``madang serve`` in a process of its own, over the models of the test cache."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from madang.models import Manifest, ManifestFile, NameReference, OllamaReference, Store

TEMPLATE = """\
{%- set said = messages[0].content if messages[0].role == 'system' else 'Be brief.' -%}
<|im_start|>system
{{ said }}
{%- if tools %}
You may call these functions:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
A call is written as <tool_call>{"name": ..., "arguments": ...}</tool_call>
{%- endif %}<|im_end|>
{% for message in messages %}
{%- if message.role != 'system' -%}
<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking %}<think>
{% endif %}
{%- endif %}"""
_TEMPLATE_KEY = b"tokenizer.chat_template"
_ALIGNMENT = 32


def with_template(gguf: Path, template: str, target: Path) -> Path:
    """The same weights with another chat template, which is filled up so that tensors stay aligned."""
    content = gguf.read_bytes()
    begin = content.index(_TEMPLATE_KEY) + len(_TEMPLATE_KEY) + 4  # behind the type of the value
    (length,) = struct.unpack_from("<Q", content, begin)
    room = (length - len(template.encode()) - len("{##}")) % _ALIGNMENT
    own = f"{template}{{#{' ' * room}#}}".encode()
    target.write_bytes(content[:begin] + struct.pack("<Q", len(own)) + own + content[begin + 8 + length :])
    return target


def put(store: Store, name: NameReference | OllamaReference, path: Path) -> None:
    """A model of the store whose files, a GGUF file or a folder, stay where they are."""
    paths = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    files = []
    for file in paths:
        status = file.stat()
        own = file.name if path.is_file() else file.relative_to(path).as_posix()
        files.append(ManifestFile(own, status.st_size, None, str(file), status.st_mtime_ns))
    format = "gguf" if path.is_file() else "huggingface"
    store.commit(Manifest(name, format, "test", tuple(files), datetime(2026, 1, 1, tzinfo=UTC)))


@contextmanager
def serving(home: Path, *options: str) -> Iterator[str]:
    """The address that it prints. Stopped at the end, as by Ctrl-C."""
    command = [sys.executable, "-m", "madang.cli", "serve", "--port", "0", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MADANG", "OPENAI"))}
    with (
        (home / "serve.log").open("wb") as log,
        subprocess.Popen(
            command, env={**environment, "MADANG_HOME": str(home)}, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        assert address.startswith("http://"), (home / "serve.log").read_text()
        try:
            yield address
        finally:
            process.terminate()
            assert process.wait(60) == 0

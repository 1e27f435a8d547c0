"""A tiny model with a chat template, and adapters for it that PEFT made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from madang.training.exporting import Trained
from tests.parity.checkpoints import TinyModel, write_checkpoint, write_folder

peft = pytest.importorskip("peft", reason="adapters are compared with what PEFT makes of them")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)  # more only wait for each other over matrices of this size

TIED = TinyModel("tied", tied=True)
UNTIED = TinyModel("untied")
TEMPLATE = (
    "{% for message in messages %}{{ '[' + message['role'] + ']' + message['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


def write_base(folder: Path, model: TinyModel = TIED) -> Path:
    """A folder with a template, whose turns end as its answers do."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_folder(write_checkpoint(model, folder.with_suffix(".gguf")), folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def write_adapter(base: Path, folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """A random LoRA adapter as PEFT saves it."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": False} | config
    adapted = peft.get_peft_model(model, peft.LoraConfig(**settings))
    if config.get("modules_to_save"):
        with torch.no_grad():
            for name, values in adapted.named_parameters():
                if "modules_to_save" in name:
                    values.add_(0.1 * torch.randn_like(values))
    adapted.save_pretrained(folder)
    return folder


def changed(folder: Path, target: Path, change: Callable[[Path], None]) -> Path:
    """A copy with something wrong in it."""
    shutil.copytree(folder, target)
    change(target)
    return target


def edit_json(file: Path, **values: Any) -> None:
    """Set keys; None removes one."""
    document = {**(json.loads(file.read_text()) if file.exists() else {}), **values}
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def write_trained(root: Path, model: TinyModel = TIED) -> Trained:
    """A base and a LoRA of all its matrices."""
    base = write_base(root / "base", model)
    return Trained("tiny", base, write_adapter(base, root / "adapter"), None, "file:base")

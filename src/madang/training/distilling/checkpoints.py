"""Where a run is, on disk: weights and optimizer as safetensors, so that it goes on as if it had never stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from madang.core.errors import InvalidRequest
from madang.core.writing import replacing, require_disk, within_disk

_STATE: Final = "state.json"
_TENSORS: Final = "state.safetensors"
_MOMENTS: Final = ("exp_avg", "exp_avg_sq", "step")


def save_checkpoint(folder: Path, parameters: dict[str, Any], optimizer: Any, state: dict[str, Any]) -> None:
    """Write step ``state["step"]`` beside those before, then delete them. Raises NotEnoughDisk; the last one stays."""
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    for name, parameter in parameters.items():
        tensors[f"weight:{name}"] = parameter.detach().contiguous()
        for moment, value in optimizer.state.get(parameter, {}).items():
            if moment in _MOMENTS:
                tensors[f"{moment}:{name}"] = value.detach().contiguous()
    total_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    folder.mkdir(parents=True, exist_ok=True)
    require_disk(folder, total_bytes)
    target = folder / f"step-{state['step']:08d}"
    if target.exists():
        return
    with within_disk(folder, total_bytes), replacing(target) as own:
        own.mkdir()
        save_file(tensors, own / _TENSORS)
        own.joinpath(_STATE).write_text(json.dumps(state) + "\n", encoding="utf-8")
    for older in sorted(folder.glob("step-*"))[:-1]:
        shutil.rmtree(older)


def load_checkpoint(
    folder: Path, parameters: dict[str, Any], optimizer: Any, run: dict[str, Any]
) -> dict[str, Any] | None:
    """Put the newest one back, and return its state; None where there is none.

    Raises InvalidRequest when it is of another run than ``run`` says.
    """
    found = sorted(folder.glob("step-*"))
    if not found:
        return None
    state: dict[str, Any] = json.loads(found[-1].joinpath(_STATE).read_text(encoding="utf-8"))
    if state["run"] != run:
        raise InvalidRequest(
            f"{folder} holds checkpoints of another run: other settings, data, teacher or student.",
            param="checkpoints",
            hint="Name another folder, or remove this one.",
        )
    _restore(found[-1] / _TENSORS, parameters, optimizer)
    return state


def _restore(path: Path, parameters: dict[str, Any], optimizer: Any) -> None:
    import torch
    from safetensors import safe_open

    with safe_open(path, "pt") as file, torch.no_grad():
        held = set(file.keys())
        for name, parameter in parameters.items():
            parameter.copy_(file.get_tensor(f"weight:{name}"))
            moments = {moment: f"{moment}:{name}" for moment in _MOMENTS if f"{moment}:{name}" in held}
            for moment, key in moments.items():
                value = file.get_tensor(key)
                # The count of steps stays on the CPU, as the optimizer has it.
                optimizer.state[parameter][moment] = value if moment == "step" else value.to(parameter.device)

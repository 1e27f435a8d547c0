"""``madang tune``: from a GGUF file to a row of the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from madang.formats.adapters import read_adapter
from madang.formats.families import describe_folder
from tests.cli.conftest import Madang
from tests.parity.checkpoints import write_checkpoint
from tests.training.tiny_runs import TINY, write_examples

pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("peft", reason="training needs the extra 'train'")


def test_a_gguf_file_is_tuned_put_to_tasks_and_kept_in_the_ledger(madang: Madang, home: Path, tmp_path: Path) -> None:
    base = write_checkpoint(TINY, tmp_path / "base.gguf").path
    data = write_examples(tmp_path / "data.jsonl")
    text, own = tmp_path / "text.txt", tmp_path / "own.yaml"
    text.write_text("It rained. The road was wet, and nobody went out.\n" * 40)
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + "".join(f"say {n}\t{n % 2}\n" for n in range(8)))
    own.write_text('task: own\nkind: choice\ndata: rows.tsv\nprompt: "{text}"\nchoices: [" a", " b"]\nlabel: label\n')
    words = (*("--model", str(base), "--data", str(data), "--steps", "3", "--batch-tokens", "256", "--threads", "1"),)
    more = (*("--forgetting", str(text), "--tasks", str(own), "--task-items", "6", "--dtype", "float32"),)
    tuned = madang("tune", *words, *more, "--rank", "4", "--json")
    assert tuned.status == 0, tuned.err
    result = tuned.json()
    assert result["base"]["model"].endswith("base.gguf")
    adapter = Path(result["path"]) / "adapter"
    assert (
        json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == result["base"]["model"]
    )
    (folder,) = (home / "runs" / "bases").iterdir()
    read_adapter(adapter, describe_folder(folder))
    (task,) = result["tasks"]
    assert (task["task"], task["n"]) == ("own", 6) and result["tasks_problem"] is None

    (kept,) = madang("runs", "list", "--kind", "tune", "--json").json()["runs"]
    assert kept["id"] == result["id"] and set(kept["scores"]) == set(kept["before"]) > {"own", "held-out loss"}
    assert "held-out loss" in madang("runs", "list").out
    assert f"{result['id']} against {result['base']['model']}" in madang("runs", "show", "1").out
    same = madang("runs", "compare", "1", "1", "--json").json()["tasks"]
    assert {one["task"] for one in same} == set(kept["scores"])
    assert all(one["before"] == one["after"] for one in same)

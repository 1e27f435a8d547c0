"""What the server says in English has a translation that the page finds by its template."""

from __future__ import annotations

import ast
import copy
import json
import re
from pathlib import Path

import madang
from madang.hardware import Reason
from madang.models import load_catalog
from madang.runtime.outlook import UNMEASURED
from madang.runtime.recommending import RULE
from madang.server.manage.documents.base import Sentence

SOURCE = Path(madang.__file__).parent
ROOT = Path(__file__).resolve().parents[3]
KOREAN: dict[str, str] = json.loads((ROOT / "web/src/screens/models/reasons.ko.json").read_text(encoding="utf-8"))
FILES = (
    "engines/table.py",
    *("engines/transformers/placing.py", "hardware/placement.py", "hardware/plan.py"),
    *("runtime/choosing.py", "runtime/outlook.py", "runtime/recommending.py"),
)


def templates(path: Path) -> set[str]:
    """Every text that is given as a reason. Fails at one whose fields nobody can tell from the rest."""
    found = set()
    for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
        name = getattr(call.func, "id", "")
        text = call.args[0 if name == "Reason" else 1] if name in {"Choice", "EngineChoice", "Reason"} else None
        assert not isinstance(text, ast.JoinedStr), f"{path.name}, line {call.lineno}: say it with Reason"
        if isinstance(text, ast.Constant):
            found.add(text.value)
    return found


def conditions() -> set[str]:
    """What a recommendation says of models that it left out."""
    tree = ast.parse((SOURCE / "runtime" / "recommending.py").read_text("utf-8"))
    judge = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "_judge")
    returned = (node for found in ast.walk(judge) if isinstance(found, ast.Return) for node in ast.walk(found))
    return {node.value for node in returned if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_reason_is_translated() -> None:
    known = set.union(*(templates(SOURCE / name) for name in FILES))
    licenses = {entry.license for entry in load_catalog().entries.values()} - {None}
    terms = {license.reason for license in licenses if license is not None and license.commercial != "yes"}
    missing = (known | terms | conditions() | {RULE, UNMEASURED}) - set(KOREAN)
    assert not missing
    assert len(known) > 30
    assert len(conditions()) > 8


def test_translations_have_the_same_fields() -> None:
    for english, korean in KOREAN.items():
        assert set(re.findall(r"{(\w+)}", english)) == set(re.findall(r"{(\w+)}", korean)), english


def test_a_reason_is_its_text_and_knows_how_it_was_made() -> None:
    made = Reason("{type} has {n} {unknown}", type="{n}", n=0)
    assert made == "{n} has 0 {unknown}"
    told = Sentence.of(copy.deepcopy(made))
    assert (told.template, told.fields) == ("{type} has {n} {unknown}", {"type": "{n}", "n": "0"})
    assert Sentence.of("as requested").template == "as requested"

"""Promises of the repository as a whole: what it installs, imports, runs, links to and says of itself."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from madang import __version__
from madang.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.ko.md")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.joinpath("docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"])
SOURCES = sorted(ROOT.joinpath("src").rglob("*.py"))
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


# -- what is installed and imported


def test_the_base_install_has_no_deep_learning_framework() -> None:
    seen, waiting = set[str](), ["madang"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += base_requirements(name)
    assert {"numpy", "tokenizers"} <= seen
    assert not seen & {"torch", "transformers", "tensorflow", "jax", "accelerate", "llama-cpp-python", "xllamacpp"}


def base_requirements(package: str) -> list[str]:
    """Normalized names of what a package always needs; none for what is not installed, as on another system."""
    try:
        requirements = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []
    always = [requirement for requirement in requirements if "extra ==" not in requirement]
    return [re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in always]


def test_help_and_import_load_nothing_heavy() -> None:
    heavy = "numpy", "tokenizers", "jinja2", "huggingface_hub", "torch", "transformers", "madang._core"
    script = (
        "import sys, madang; from madang.cli.main import main; status = main(['--help']);"
        f"print('HEAVY', *(name for name in {heavy} if name in sys.modules)); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY"


# -- what the source may not contain


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_code_from_strangers(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not {name.partition(".")[0] for name in imports(tree)} & {"pickle", "marshal", "shelve", "dill", "joblib"}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        assert not name.endswith("Environment"), f"line {call.lineno}: templates run in TemplateSandbox only"
        assert getattr(call.func, "id", "") not in {"eval", "exec"}, f"line {call.lineno}"
        asked = {word.arg for word in call.keywords if getattr(word.value, "value", None) is not False}
        assert not asked & {"trust_remote_code", "shell"}, f"line {call.lineno}"


def test_only_the_sandbox_knows_jinja() -> None:
    users = {path.parent for path in SOURCES if any(name.startswith("jinja2") for name in imports_of(path))}
    assert users == {ROOT / "src" / "madang" / "formats" / "templates"}


def imports_of(path: Path) -> list[str]:
    return list(imports(ast.parse(path.read_text(encoding="utf-8"))))


def imports(tree: ast.AST) -> Iterator[str]:
    """Names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


# -- what the pages say


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)\s#]*)(#[^)\s]*)?\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert not anchor or anchor[1:] in anchors(path), f"{target}{anchor}"


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_code_mentions_only_pages_that_exist() -> None:
    files = [*SOURCES, *(path for path in ROOT.joinpath("csrc").rglob("*.*"))]
    for path in files:
        for mention in re.findall(r"docs/(?:decisions|reference|log|architecture)[\w./-]*", path.read_text("utf-8")):
            assert list(ROOT.glob(mention.rstrip(".") + "*")), f"{path.name}: {mention}"


@each_page
def test_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", ROOT.joinpath("Makefile").read_text("utf-8"), re.MULTILINE))
    verbs: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    for command, rest in commands(page.read_text(encoding="utf-8")):
        word, *others = rest.split()
        if command == "make":
            assert word in targets, rest
        elif not word.startswith("-"):
            assert word in verbs, rest
            verb = verbs[word]
            if others and others[0] in getattr(verb, "commands", {}):
                verb = verb.commands[others[0]]
            options = {name for param in verb.params for name in param.opts} | {"--help"}
            assert {other for other in others if other.startswith("--")} <= options, rest


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Every ``make …`` and ``madang …`` that begins a line at a prompt, a piece of code, or comes after a pipe."""
    for match in re.finditer(r"(?:^\$ |`|\| )(?:\.venv/bin/)?(make|madang) ([a-z-][^`|\n]*)", text, re.MULTILINE):
        yield match[1], match[2]


def test_both_readmes_show_the_same() -> None:
    english, korean = (fences(name) for name in READMES)
    assert english == korean
    assert english[0][1].startswith("$ make chat ") and "$ make test" in english[1][1]
    for name in READMES:
        text = ROOT.joinpath(name).read_text(encoding="utf-8")
        assert text.count("<!-- peers:begin -->") == text.count("<!-- peers:end -->") == 1


def test_the_python_example_runs(starter_gguf: Path) -> None:
    example = next(code for language, code in fences("README.md") if language == "python")
    home = starter_gguf.parents[2]  # models/blobs/…
    environment = {**os.environ, "MADANG_HOME": str(home), "MADANG_CONTEXT": "512"}
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    streamed, whole = done.stdout.splitlines()
    assert streamed.startswith("The capital of France is Paris")
    assert whole.startswith(streamed) and "cached_tokens=36" in whole


def fences(name: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", ROOT.joinpath(name).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## \[(.*?)\]", ROOT.joinpath("CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert versions[0] == __version__


RESULTS = sorted(ROOT.joinpath("benchmarks", "results").glob("*.json"))


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.name)
def test_results_name_no_place_on_a_machine(result: Path) -> None:
    assert not re.findall(r"""(?<![^\s"'=])(?:~?/|[A-Za-z]:\\)[^\s"']*""", result.read_text(encoding="utf-8"))


# -- how it is checked


def test_help_of_make_names_every_target() -> None:
    text = ROOT.joinpath("Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) - {"help"} == set(re.findall(r"@echo 'make ([a-z]+)", text))


def test_ci_runs_the_same_as_people() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "make check test"


def test_torch_is_pinned_for_tests() -> None:
    constraints = ROOT.joinpath("constraints.txt").read_text(encoding="utf-8").splitlines()
    assert "torch==2.13.0" in constraints
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
    dev = {re.split(r"[^\w.-]", requirement)[0] for requirement in project["optional-dependencies"]["dev"]}
    pinned = {line.partition("==")[0] for line in constraints if "==" in line}
    assert pinned <= dev | {"numpy", "llguidance", "fastapi", "starlette", "uvicorn"}


# -- what the page is made of


def test_the_lock_file_is_whole() -> None:
    """npm leaves out what a registry did not have for another platform, and then refuses its own lock file."""
    packages = json.loads((ROOT / "web" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    names = {path.rpartition("node_modules/")[2] for path in packages}
    wanted = {name for package in packages.values() for name in package.get("optionalDependencies", {})}
    assert wanted <= names
    assert not [path for path, package in packages.items() if "resolved" in package], "addresses of a registry"

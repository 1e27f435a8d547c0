"""What tests have shown of each client, and the page that says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import pytest

from tests.compatibility.features import FEATURES

YES, FAILED, NOT_RUN, NONE = "yes", "**fails**", "not run", "–"
HEAD = """<!-- Written by `python -m tests.compatibility.matrix`, from what the tests of that folder saw. -->

# Which clients work

Unmodified clients against `madang serve`, as everyone starts it, with real models: the starter (SmolLM2 135M), a copy
of it with a chat template for tools and reasoning, and a small embedding model. Only what no healthy engine does, to
break or to be slow, is done by an engine that was made for it. "yes" means that the tests of this row passed with this
client; "refused" that the client is told clearly why it cannot be had; "–" that the client has no such thing, or that
no test shows it."""


@dataclass(frozen=True, slots=True)
class Client:
    """A column. ``package`` is None for what is replayed rather than run; ``about`` says how it is connected."""

    name: str
    about: str
    package: str | None = None

    @property
    def title(self) -> str:
        """With its version, as installed."""
        return self.name if self.package is None else f"{self.name} {version(self.package)}"


@dataclass(slots=True)
class Record:
    """Outcomes of one run of tests, by client and feature."""

    outcomes: dict[tuple[str, str], str] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)
    refusals: dict[str, set[str]] = field(default_factory=dict)

    def collected(self, items: Iterable[pytest.Item]) -> None:
        """These tests are going to run."""
        for item in items:
            for client, feature, refused in _shown_by(item):
                self.clients[client.name] = client
                self.outcomes.setdefault((client.name, feature), NOT_RUN)
                if refused is not None:
                    self.refusals.setdefault(feature, set()).add(refused)

    def saw(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """A failure anywhere counts; a pass only where nothing failed."""
        for client, feature, refused in _shown_by(item):
            key = client.name, feature
            if report.failed or report.skipped:
                self.outcomes[key] = FAILED if report.failed else NOT_RUN
            elif report.when == "call" and self.outcomes[key] == NOT_RUN:
                self.outcomes[key] = YES if refused is None else "refused"

    @property
    def is_complete(self) -> bool:
        """Whether every client has been seen, and nothing of it failed or was left out."""
        return bool(self.clients) and not {FAILED, NOT_RUN} & set(self.outcomes.values())

    def page(self, titles: Mapping[str, str] | None = None) -> str:
        """As Markdown; ``titles`` of clients in place of those with the versions that are installed."""
        clients = [self.clients[name] for name in sorted(self.clients, key=_order)]
        names = [(titles or {}).get(client.name, client.title) for client in clients]
        rows = [["", *names], ["---"] * (len(names) + 1)]
        for feature in FEATURES:
            rows.append([feature, *(self.outcomes.get((client.name, feature), NONE) for client in clients)])
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        meanings = "\n".join(f"- **{feature}**: {meaning}." for feature, meaning in FEATURES.items())
        about = "\n".join(f"- **{client.name}**: {client.about}" for client in clients)
        refused = "\n".join(
            f"- **{feature}**: {why}" for feature in FEATURES for why in sorted(self.refusals.get(feature, ()))
        )
        parts = [HEAD, table, "## What a row means", meanings, "## How each client is connected", about]
        return "\n\n".join([*parts, "## What is refused, and why", refused, _FOOT]) + "\n"


RECORD: Final = pytest.StashKey[Record]()
_FOOT = """## What is not shown here

Pictures, audio and stored conversations (`previous_response_id`) do not exist here. All fields of all requests are in
[http-fields.md](http-fields.md), and what differs from Ollama is in [ollama.md](ollama.md). How good a small model is
at calling tools is not the server's doing: the rows say that calls arrive as the client reads them."""
_ORDER = ("openai", "langchain-openai", "litellm", "ollama", "langchain-ollama", "anthropic", "curl")


def _order(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _shown_by(item: pytest.Item) -> list[tuple[Client, str, str | None]]:
    client: Any = getattr(getattr(item, "module", None), "CLIENT", None)
    found = []
    for marker in item.iter_markers("shows"):
        for feature in marker.args:
            if feature not in FEATURES:
                raise pytest.UsageError(f"{item.nodeid} shows '{feature}', which is no row of the matrix.")
            found.append((client, feature, marker.kwargs.get("refused")))
    return found

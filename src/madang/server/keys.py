"""API keys: who may use a server, which models, and how much.

<home>/keys.json    names, hashes, limits; readable for its owner only. The secrets themselves are kept nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Lock
from typing import Any

from madang.core.errors import InvalidRequest, MadangError, UnknownOption
from madang.core.locking import file_lock
from madang.core.writing import write_atomically

KEYS_FILE = "keys.json"
SCHEMA = 2
SCHEMA_WITHOUT_RIGHTS = 1  # every key of such a file could change models, and may still
SECRET_PREFIX = "md-"
SECRET_BYTES = 32
MAX_FILE_BYTES = 4 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATTERN = re.compile(r"[\w.:/@*?\[\]!-]{1,200}", re.ASCII)
_RATE = re.compile(r"(\d{1,9})(?:/min)?")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One row of the file. None is no limit.

    sha256                of the secret, hexadecimal
    models                patterns of the models that it may use, as shells match names; None is every model
    requests_per_minute   requests that it may begin per minute, all of them at once if it likes
    concurrency           requests that it may have running at once
    may_manage            whether it may change what the server has, and see all that it does: pull, make, delete and
                          unload models, read metrics of every key and the settings
    """

    name: str
    sha256: str
    created: datetime
    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    concurrency: int | None = None
    may_manage: bool = False

    def may_use(self, model: str) -> bool:
        """Whether a pattern matches the canonical reference of a model, such as ``smollm2:135m``."""
        return self.models is None or any(fnmatchcase(model, pattern) for pattern in self.models)


class KeyFile:
    """The keys below ``home``. Every reader sees a change at its next question: a removed key is dead at once."""

    def __init__(self, home: Path) -> None:
        self.path = home / KEYS_FILE
        self._lock = Lock()
        self._state: tuple[int, ...] | None = None
        self._keys: tuple[ApiKey, ...] = ()

    def list(self) -> tuple[ApiKey, ...]:
        """All keys, by name. Raises MadangError when the file is damaged: then nobody is let in."""
        with self._lock:
            state = _state(self.path)
            if state is None:
                self._keys = ()
            elif state != self._state:
                self._keys = _read(self.path)
            self._state = state
            return self._keys

    def find(self, secret: str) -> ApiKey | None:
        """The key with this secret. Takes as long for any wrong secret, whatever it has in common with a right one."""
        digest = hash_secret(secret)
        found: ApiKey | None = None
        for key in self.list():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def add(
        self,
        name: str,
        *,
        models: Iterable[str] | None = None,
        requests_per_minute: int | None = None,
        concurrency: int | None = None,
        may_manage: bool = False,
    ) -> str:
        """Make a key and return its secret, which cannot be had again. Raises InvalidRequest, also for a taken name."""
        secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        key = _checked(
            ApiKey(
                name=name,
                sha256=hash_secret(secret),
                created=datetime.now(UTC).replace(microsecond=0),
                models=None if models is None else tuple(models),
                requests_per_minute=requests_per_minute,
                concurrency=concurrency,
                may_manage=may_manage,
            )
        )
        with self._locked():
            keys = self.list()
            if name in {other.name for other in keys}:
                raise InvalidRequest(
                    f"There is a key named '{name}' already.", param="name", hint=f"Remove it: madang keys rm {name}"
                )
            self._write((*keys, key))
        return secret

    def remove(self, name: str) -> None:
        """Forget a key. Raises UnknownOption when there is none of that name."""
        with self._locked():
            keys = self.list()
            if name not in {key.name for key in keys}:
                raise UnknownOption("key", name, [key.name for key in keys])
            self._write([key for key in keys if key.name != name])

    def _locked(self) -> Any:
        return file_lock(self.path.with_suffix(".lock"))

    def _write(self, keys: Iterable[ApiKey]) -> None:
        rows = [asdict(key) | {"created": key.created.isoformat()} for key in sorted(keys, key=lambda key: key.name)]
        text = json.dumps({"schema": SCHEMA, "keys": rows}, indent=2, ensure_ascii=False)
        write_atomically(self.path, text + "\n", private=True)


def hash_secret(secret: str) -> str:
    """One round of SHA-256 is right for random secrets of 256 bits: there is no dictionary to try, and a slow hash as
    passwords need would only let strangers keep the server busy."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read_rate(text: str) -> int:
    """Requests per minute from ``30`` or ``30/min``. Raises InvalidRequest."""
    match = _RATE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise InvalidRequest(f"'{text}' is not a rate.", param="rate", hint="Write requests per minute: 30/min.")
    return int(match[1])


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> tuple[ApiKey, ...]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] == SCHEMA_WITHOUT_RIGHTS:
            return tuple(_from_row({**row, "may_manage": True}) for row in record["keys"])
        if record["schema"] != SCHEMA:
            raise ValueError("unknown schema")
        return tuple(_from_row(row) for row in record["keys"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidRequest) as error:
        raise MadangError(
            f"{path} is not a file of API keys ({type(error).__name__}).",
            hint="Move it away and make new keys: madang keys add NAME",
        ) from error


def _from_row(row: dict[str, Any]) -> ApiKey:
    key = ApiKey(**row)
    models = None if key.models is None else tuple(key.models)
    return _checked(replace(key, created=datetime.fromisoformat(row["created"]), models=models))


def _checked(key: ApiKey) -> ApiKey:
    if not _NAME.fullmatch(key.name):
        raise InvalidRequest(
            f"'{key.name}' cannot name a key.", param="name", hint="Use up to 64 letters, digits, dots and hyphens."
        )
    if not re.fullmatch(r"[0-9a-f]{64}", key.sha256):
        raise InvalidRequest("The hash of a key is damaged.", param="sha256")
    for pattern in key.models or ():
        if not _PATTERN.fullmatch(pattern):
            raise InvalidRequest(f"'{pattern}' is not a pattern of model names.", param="models")
    if key.models == ():
        raise InvalidRequest("A key that may use no model at all opens nothing.", param="models")
    if not isinstance(key.may_manage, bool):
        raise InvalidRequest("Whether a key may manage is true or false.", param="manage")
    for param, value in {"rate": key.requests_per_minute, "concurrency": key.concurrency}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InvalidRequest(f"{param} is {value!r}, but must be a whole number of 1 or more.", param=param)
    return key

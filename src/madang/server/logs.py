"""Logs for machines: one JSON object per line on stderr. Secrets are taken out, prompts never go in."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

from madang.server.keys import SECRET_PREFIX

REDACTED = "[redacted]"
# Our keys, what stands behind a scheme of authorization, and parameters that are named like secrets. A second net only:
# nothing that holds one is handed to a logger on purpose.
_SECRETS = re.compile(
    rf"\b{SECRET_PREFIX}[A-Za-z0-9_-]{{16,}}|\bhf_[A-Za-z0-9]{{16,}}|\bsk-[A-Za-z0-9_-]{{16,}}"
    r"|(?<=Bearer )[^\s'\",;]+|(?<=Basic )[^\s'\",;]+"
    r"|(?i:(?<=api_key=)|(?<=api-key=)|(?<=x-api-key: )|(?<=token=)|(?<=password=))[^\s&'\",;]+"
)
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record with its ``extra`` fields as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return redacted(json.dumps(fields, ensure_ascii=False, default=str))


def redacted(text: str) -> str:
    """``text`` without what looks like a secret."""
    return _SECRETS.sub(REDACTED, text)


def configure_logs(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Send the logs of the server, and of uvicorn, to ``stream`` (stderr). uvicorn's own access log, which has
    queries, is off: start it with ``log_config=None``."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    for name in ("madang", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False

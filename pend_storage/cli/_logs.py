"""Log of the library while a command runs: level, place and format."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from typing_extensions import override

__all__ = ["LEVELS", "LogFormat", "show_logs"]

LogFormat: TypeAlias = Literal["text", "json"]

LEVELS: Final = ("debug", "info", "warning", "error")
"""Words for the least level that is shown."""

_LOGGER: Final = "pend_storage"
_TOLD_ANYWAY: Final = ("file-adopted:", "files-unclaimed:")
"""Events that the commands report in their own way: ``migrate json`` and ``doctor``."""


def show_logs(level: str | None, form: LogFormat | None, *, as_json: bool) -> None:
    """Write the log of the library to the standard error, from now on.

    Args:
        level: the least level; None: warnings, without what commands report themselves.
        form: how a line looks; None: a note for people.
        as_json: whether the command writes a JSON document. Then nothing is logged unless
            a level or a form was chosen.
    """
    logger = logging.getLogger(_LOGGER)
    for handler in list(logger.handlers):
        if isinstance(handler, _Shown | logging.NullHandler):
            logger.removeHandler(handler)
    if as_json and level is None and form is None:
        logger.addHandler(logging.NullHandler())
        return
    shown = _Shown(sys.stderr)
    shown.setFormatter(_AsJson() if form == "json" else _AsNote())
    shown.setLevel((level or "warning").upper())
    if level is None:
        shown.addFilter(_is_news)
    elif logger.getEffectiveLevel() > shown.level:
        logger.setLevel(shown.level)
    logger.addHandler(shown)


class _Shown(logging.StreamHandler):  # type: ignore[type-arg]
    """Handler of the command line, so that it can be found and replaced."""


class _AsNote(logging.Formatter):
    """Format for people: a note, or a line with its level."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        is_note = record.levelno >= logging.WARNING
        return f"{'note' if is_note else record.levelname.lower()}: {super().format(record)}"


class _AsJson(logging.Formatter):
    """Format for log collectors: one JSON object a line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        name, colon, rest = message.partition(": ")
        is_event = bool(colon) and " " not in name
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": name if is_event else None,
            "message": rest if is_event else message,
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_TOLD_ANYWAY)

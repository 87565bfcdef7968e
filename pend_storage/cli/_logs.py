"""Log of the library while a command runs: level, handler and format."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from typing_extensions import override

from pend_storage._escaping import escaped_json
from pend_storage._shown import message_text
from pend_storage.cli._tracebacks import traceback_text

__all__ = ["LEVELS", "LogFormat", "show_logs"]

LogFormat: TypeAlias = Literal["text", "json"]

LEVELS: Final = ("debug", "info", "warning", "error")
"""Choices for the lowest level that is shown."""

_LOGGER: Final = "pend_storage"
_REPORTED_BY_COMMANDS: Final = ("file-adopted:", "files-unclaimed:")
"""Events that ``migrate json`` and ``doctor`` report in their own output."""


def show_logs(level: str | None, form: LogFormat | None, *, as_json: bool) -> None:
    """Write the log of the library to the standard error, from now on.

    Args:
        level: the lowest level; None: warnings, without the events that commands report.
        form: format of a line; None: a note for people.
        as_json: whether the command writes a JSON document. Then nothing is logged unless
            a level or a format was chosen.
    """
    logger = logging.getLogger(_LOGGER)
    for handler in list(logger.handlers):
        if isinstance(handler, _CommandHandler | logging.NullHandler):
            logger.removeHandler(handler)
    if as_json and level is None and form is None:
        logger.addHandler(logging.NullHandler())
        return
    handler = _CommandHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _NoteFormatter())
    handler.setLevel((level or "warning").upper())
    if level is None:
        handler.addFilter(_is_unreported)
    elif logger.getEffectiveLevel() > handler.level:
        # A program that calls the command line may have set a higher level.
        logger.setLevel(handler.level)
    logger.addHandler(handler)


class _CommandHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Handler of the command line, by its type to be found and replaced."""


class _NoteFormatter(logging.Formatter):
    """Formatter for people: a note, or a line with its level."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        is_note = record.levelno >= logging.WARNING
        level = "note" if is_note else record.levelname.lower()
        line = f"{level}: {message_text(record.getMessage())}"
        if record.exc_info and record.exc_info[1] is not None:
            line += f"\n{traceback_text(record.exc_info[1])}"
        return line


class _JsonFormatter(logging.Formatter):
    """Formatter for log collectors: one JSON object a line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        message = message_text(record.getMessage())
        name, colon, rest = message.partition(": ")
        is_event = bool(colon) and " " not in name
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": name if is_event else None,
            "message": rest if is_event else message,
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = traceback_text(record.exc_info[1])
        return escaped_json(json.dumps(line, ensure_ascii=False))


def _is_unreported(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_REPORTED_BY_COMMANDS)

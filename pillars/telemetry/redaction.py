"""No secret in the log: what looks like a password is hidden in every record, whoever wrote it."""

from __future__ import annotations

import logging
import re

_LONGEST_FIELD = 20
# Bounded, so that a long text full of colons costs no quadratic search.
_URL = re.compile(r"(://[^\s:/@]{0,400}:)\S{0,400}@")
_KEY = re.compile(
    r"""((?:password|passwd|pwd|secret|token|api[_-]?key|authorization)["']?\s*[=:]\s*)"""
    r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?:(?:bearer|basic)\s+)?\S+)""",
    re.IGNORECASE,
)
_TRACEBACK = logging.Formatter()
_WORDS = ("pass", "pwd", "secret", "token", "key", "authorization")


def redact(text: str) -> str:
    """Return the text without passwords of URLs and without values of password-like keys."""
    if "://" in text:
        text = _URL.sub(r"\1***@", text)
    # Most lines hold no such word, and looking for words is ten times as fast as for the pattern.
    folded = text.lower()
    if any(word in folded for word in _WORDS):
        text = _KEY.sub(r"\1***", text)
    return text


def redact_record(record: logging.LogRecord) -> bool:
    """Filter: let every record pass, with the secrets in message, fields and traceback hidden."""
    record.msg = redact(_message(record))
    record.args = ()
    if record.exc_info and not record.exc_text:
        record.exc_text = _TRACEBACK.formatException(record.exc_info)
    if record.exc_text:
        record.exc_text = redact(record.exc_text)
    fields = getattr(record, "fields", None)
    if fields:
        record.fields = {field: _redacted(value) for field, value in fields.items()}
    return True


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        # A library's slip in its own format must not raise in the code that wanted to log.
        return f"{record.msg} {record.args}"


def _redacted(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, tuple):
        # A batch of thousands of figures is no reading: say how many there were.
        if len(value) > _LONGEST_FIELD:
            return len(value)
        return tuple(_redacted(item) for item in value)
    return value

"""What YAML's scalars without quotes mean, as far as its versions 1.1 and 1.2 agree.

`no`, `010` or `1:30` are faults, for half of all readers would take them otherwise than meant.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

_CONSTANTS: Final = (
    dict.fromkeys(("", "~", "null", "Null", "NULL"))
    | dict.fromkeys(("true", "True", "TRUE"), True)
    | dict.fromkeys(("false", "False", "FALSE"), False)
)
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})")
_FLOAT: Final = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+][0-9]{1,3})?")
_SURPRISE: Final = re.compile(
    r"(?i:yes|no|on|off)"
    r"|[-+]?[0-9][0-9_]*"  # 010, 1_000, +5
    r"|[-+]?0[xob][0-9a-fA-F_]+"
    r"|[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?"  # 1:30 is 90
    r"|[-+]?([0-9][0-9_]*)?\.[0-9_]*([eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]+"  # 12e34 is text, or a number
    r"|[-+]?\.(?i:inf|nan)"
)
# With what a scalar begins that may be something else than text.
SUSPECT: Final = frozenset("0123456789+-.~nNtTfFyYoO")
# How much of a text a message repeats.
_SHORT: Final = 40


def resolve(text: str) -> tuple[Any, str | None]:
    """Return the value of a scalar without quotes, and what is surprising about it."""
    if text in _CONSTANTS:
        return _CONSTANTS[text], None
    if _INTEGER.fullmatch(text):
        return int(text), None
    if _FLOAT.fullmatch(text):
        return float(text), None
    if _SURPRISE.fullmatch(text):
        return text, _surprise(text)
    return text, None


def _surprise(text: str) -> str:
    word = text.lower()
    if word in {"yes", "on", "no", "off"}:
        truth = "true" if word in {"yes", "on"} else "false"
        return f"{text} means {truth} to YAML; put quotes round it, or write {truth}"
    reading = yaml.safe_load(text) if len(text) < _SHORT else None
    meaning = "" if reading is None or isinstance(reading, str) else f", some read {reading}"
    return f"YAML readers disagree about {text[:_SHORT]}{meaning}; put quotes round it"

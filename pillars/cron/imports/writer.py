"""Drafts to a file of ours, in YAML that our loader reads without surprise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from pillars.cron.yaml_marks import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pillars.cron.imports.draft import Draft, Imported

_LONGEST_COMMENT: Final = 20
# Text that no reader of YAML takes for anything else.
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*", re.ASCII)
_WORDS: Final = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})


def write_yaml(imported: Imported, source: str) -> str:
    """Return a file of schedules; what is not translated is said in comments beside them."""
    head = [f"Imported from {source} by `pillars schedules import`.", *imported.remarks]
    head += (f"NOTE: {note}" for note in imported.notes)
    lines = [*_comments(head, "")]
    if imported.defaults:
        lines += ["defaults:", *_block(imported.defaults, "  ")]
    lines.append("schedules:" if imported.translated else "schedules: []")
    for draft in imported.drafts:
        lines += _draft(draft)
    return "\n".join(lines) + "\n"


def reads_back(text: str, imported: Imported) -> bool:
    """Say whether our reader finds in a file exactly the drafts that were written to it."""
    document = read_yaml(text)
    if document.faults:
        return False
    expected = [
        {"name": draft.name, **draft.keys} for draft in imported.drafts if draft.keys is not None
    ]
    return bool(document.root["schedules"] == expected)


def _draft(draft: Draft) -> Iterator[str]:
    if draft.keys is None:
        said = [f"NOT TRANSLATED: {draft.name} ({draft.origin})", *draft.notes]
        yield from _comments([*draft.comments, *said, *_original(draft)], "  ")
        return
    said = [*draft.comments, f"{draft.origin}"]
    yield from _comments([*said, *(f"NOTE: {note}" for note in draft.notes)], "  ")
    first, *rest = _block({"name": draft.name, **draft.keys}, "    ")
    yield f"  - {first.strip()}"
    yield from rest


def _original(draft: Draft) -> list[str]:
    lines = draft.original.splitlines()
    more = [f"... and {len(lines) - _LONGEST_COMMENT} more lines"]
    return [
        f"    {line}" for line in lines[:_LONGEST_COMMENT] + more * (len(lines) > _LONGEST_COMMENT)
    ]


def _comments(sentences: Iterable[str], indent: str) -> Iterator[str]:
    for sentence in sentences:
        for line in sentence.splitlines():
            # A comment is read as well: it must not hold what is no text.
            text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)
            yield f"{indent}# {text}".rstrip()


def _block(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    text = yaml.dump(
        dict(value),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=10**9,
    )
    # Not splitlines: that would also break at characters that stand within quotes.
    for line in text.rstrip("\n").split("\n"):
        yield f"{indent}{line}" if line else ""


class _Dumper(yaml.CSafeDumper):
    """Knows no aliases, and quotes whatever might be read as something else than text."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML calls it so
        """Write everything out."""
        return True


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)

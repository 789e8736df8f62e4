"""HTML that is escaped by construction: what is not an element is text."""

from __future__ import annotations

from html import escape
from typing import TypeAlias

_VOID = frozenset({"br", "hr", "input", "link", "meta"})


class Html(str):
    """Markup; every other string is text and is escaped where it meets markup."""

    __slots__ = ()


Child: TypeAlias = "str | int | Html | list[Html] | None"


def element(tag: str, *children: Child, **attributes: str | None) -> Html:
    """Return an element with its children.

    `class_` is the attribute class, `http_equiv` is http-equiv; an attribute of None is left out.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
    """Return the children one after another."""
    return Html("".join(_written(child) for child in children))


def _written(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, list):
        return "".join(child)
    return child if isinstance(child, Html) else escape(str(child))

"""Finds a beat_schedule in Python source and reads it without running anything."""

from __future__ import annotations

import ast
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pillars.cron.imports.celery import Call, Unread, read_beat_schedule
from pillars.cron.imports.draft import ImportSourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pillars.cron.imports.draft import Imported

SCHEDULES: Final = frozenset({"beat_schedule", "CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE"})
_ZONES: Final = frozenset({"timezone", "CELERY_TIMEZONE"})
_OPERATORS: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
# Sums and products of source code beyond this are no interval.
_LARGEST: Final = 10**12


def read_celery(text: str, *, attribute: str | None, timezone: str | None) -> Imported:
    """Return drafts of the beat_schedule in the source of a module.

    Args:
        text: the source.
        attribute: the name it is assigned to; None looks for the names Celery knows.
        timezone: overrides the one that the source sets.

    Raises:
        ImportSourceError: it is not Python, or no such mapping is assigned in it.
    """
    try:
        tree = ast.parse(text)
        finding = _Finding(frozenset({attribute.rsplit(".", 1)[-1]}) if attribute else SCHEDULES)
        finding.visit(tree)
        if not finding.found:
            names = ", ".join(sorted(finding.names))
            raise ImportSourceError(f"assigns no dictionary to {names} that can be read as it is")
        return read_beat_schedule(
            finding.entries,
            timezone=timezone or finding.timezone,
            notes=tuple(finding.notes),
        )
    except (SyntaxError, ValueError) as error:
        raise ImportSourceError(f"is not Python: {error}") from None
    except (RecursionError, MemoryError):
        raise ImportSourceError("is nested too deep to be read") from None


@dataclass
class _Finding(ast.NodeVisitor):
    """Walks the source; what is assigned later replaces what was assigned before."""

    names: frozenset[str]
    entries: dict[Any, Any] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    timezone: str | None = None
    found: bool = False

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assign(target, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign(node.target, node.value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        name = _last_name(called)
        if name == "add_periodic_task":
            self.notes.append(f"line {node.lineno}: add_periodic_task() is not read")
        elif name == "update" and isinstance(called, ast.Attribute):
            if _last_name(called.value) in self.names and node.args:
                self._take(node.args[0], replace=False)
            for keyword in node.keywords:
                if keyword.arg is not None:
                    self._set(keyword.arg, keyword.value)
        self.generic_visit(node)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Subscript) and _last_name(target.value) in self.names:
            self.entries[_key(self._read(target.slice))] = self._read(value)
            self.found = True
            return
        if isinstance(target, ast.Name):
            self.constants[target.id] = value
        if name := _last_name(target):
            self._set(name, value)

    def _set(self, name: str, value: ast.expr) -> None:
        if name in self.names:
            self._take(value, replace=True)
        elif name in _ZONES and isinstance(zone := self._read(value), str):
            self.timezone = zone

    def _take(self, value: ast.expr, *, replace: bool) -> None:
        read = self._read(value)
        if not isinstance(read, dict):
            self.notes.append(f"line {value.lineno}: {ast.unparse(value)[:80]} is not read")
            return
        self.entries = read if replace else {**self.entries, **read}
        self.found = True

    def _read(  # noqa: PLR0911 - a dispatch
        self, node: ast.expr, depth: int = 0
    ) -> Any:  # noqa: ANN401 - any value
        """Return the value of an expression as far as it can be told, `Unread` in its place."""
        match node:
            case ast.Constant():
                return node.value
            case ast.Dict():
                # `**other` has no key.
                pairs = zip(node.keys, node.values, strict=True)
                return {
                    _key(Unread(f"**{ast.unparse(v)}") if k is None else self._read(k, depth)): (
                        self._read(v, depth)
                    )
                    for k, v in pairs
                }
            case ast.List() | ast.Tuple() | ast.Set():
                return [self._read(each, depth) for each in node.elts]
            case ast.Name() if node.id in self.constants and depth < len(self.constants):
                return self._read(self.constants[node.id], depth + 1)
            case ast.Call():
                return self._call(node, depth)
            case ast.BinOp() | ast.UnaryOp():
                return self._number(node, depth)
        return Unread(ast.unparse(node))

    def _call(self, node: ast.Call, depth: int) -> Any:  # noqa: ANN401
        name = _last_name(node.func)
        if name == "dict" and not node.args and all(word.arg for word in node.keywords):
            return {word.arg: self._read(word.value, depth) for word in node.keywords}
        return Call(
            name or ast.unparse(node.func),
            tuple(self._read(each, depth) for each in node.args),
            tuple((word.arg or "**", self._read(word.value, depth)) for word in node.keywords),
            ast.unparse(node),
        )

    def _number(self, node: ast.BinOp | ast.UnaryOp, depth: int) -> Any:  # noqa: ANN401
        unread = Unread(ast.unparse(node))
        if isinstance(node, ast.UnaryOp):
            value = self._read(node.operand, depth)
            known = isinstance(node.op, ast.USub) and _is_number(value)
            return -value if known else unread
        sides = self._read(node.left, depth), self._read(node.right, depth)
        known = type(node.op) in _OPERATORS and all(map(_is_number, sides))
        try:
            return _OPERATORS[type(node.op)](*sides) if known else unread
        except ArithmeticError:
            return unread


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_LARGEST <= value <= _LARGEST


def _key(value: Any) -> Any:  # noqa: ANN401 - a key of a dictionary
    return value if isinstance(value, str | Unread) else Unread(repr(value))


def _last_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None

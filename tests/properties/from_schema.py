"""Values by their JSON schema, and what a clumsy or hostile client makes of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEEP: Final = json.loads("[" * 60 + "]" * 60)
JUNK: Final = (
    None,
    True,
    0,
    -1,
    0.5,
    2**31,
    2**63,
    10**400,
    1e308,
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "\u202e",
    "x\ny",
    "٣",
    "a" * 70_000,
    "1e5",
    "NaN",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2030-02-30T00:00:00Z",
    "' OR 1=1 --",
    "%s %(now)s {}",
    [],
    {},
    DEEP,
    [1, "a", None],
    {"": 1},
    {"a\0": 1},
    {"\ud800": 1},
    {"a.b/c~d": 1},
)
_DURATIONS: Final = ("15m", "1h30m", "90s", 90, "500ms", "1d")
_MOMENTS: Final = (
    "2024-12-01",
    "2024-06-01T09:00:00Z",
    "2031-03-30 02:30",
    "2031-10-26T02:30:00+02:00",
)
# Sound values that a pattern alone would seldom hit upon.
SOUND: Final = {
    "cron": (
        "* * * * *",
        "*/5 6-8 * * mon-fri",
        "0 6 L * ?",
        "30 0 9 1 1 *",
        "H H/4 * * *",
        "@daily",
        "0 0 30 2 *",
        "0 0 29 2 mon",
    ),
    "timezone": ("UTC", "Europe/Berlin", "Pacific/Apia", "Australia/Lord_Howe", "America/New_York"),
    **dict.fromkeys(("at", "start_at", "end_at", "from", "to"), _MOMENTS),
    **dict.fromkeys(
        ("every", "phase", "jitter", "timeout", "catchup_window", "base", "max"), _DURATIONS
    ),
}
junk = st.sampled_from(JUNK)
_MOST_ITEMS = 3
_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2)
    ),
    max_leaves=6,
)


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for what a schema describes."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "properties" not in schema and "oneOf" in schema:
        return st.one_of(*map(values, schema["oneOf"]))
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return st.one_of(*(_KINDS[kind](schema) for kind in kinds)) if kinds else _plain


@st.composite
def mutants(draw: st.DrawFn, whole: Any) -> Any:
    """Replace something in a value, take it out, or add what nobody knows."""
    if not isinstance(whole, (dict, list)) or not whole or not draw(st.integers(0, 4)):
        return draw(junk)
    copy = dict(whole) if isinstance(whole, dict) else list(whole)
    key = draw(st.sampled_from(list(copy) if isinstance(copy, dict) else range(len(copy))))
    how = draw(st.sampled_from(["inside", "inside", "inside", "out", "more"]))
    if how == "inside":
        copy[key] = draw(mutants(copy[key]))
    elif how == "out":
        del copy[key]
    elif isinstance(copy, dict):
        copy[draw(st.sampled_from(["", "x", f"{key}s", "\0", "\ud800", "a/b~c.d"]))] = draw(junk)
    else:
        copy.append(draw(junk))
    return copy


def _integers(schema: Mapping[str, Any]) -> st.SearchStrategy[int]:
    return st.integers(schema.get("minimum"), schema.get("maximum"))


def _numbers(schema: Mapping[str, Any]) -> st.SearchStrategy[float]:
    bounds = schema.get("minimum"), schema.get("maximum")
    return st.floats(*bounds, allow_nan=False, allow_infinity=False)


def _arrays(schema: Mapping[str, Any]) -> st.SearchStrategy[list[Any]]:
    least = schema.get("minItems", 0)
    return st.lists(
        values(schema.get("items", {})), min_size=least, max_size=max(least, _MOST_ITEMS)
    )


def _any_objects(schema: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    if "properties" in schema:
        return _objects(schema)
    return st.dictionaries(st.text(max_size=8), _plain, max_size=_MOST_ITEMS)


def _texts(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda moment: f"{moment.isoformat(timespec='seconds')}Z")
    return st.text(
        min_size=schema.get("minLength", 0), max_size=min(20, schema.get("maxLength", 20))
    )


@st.composite
def _objects(draw: st.DrawFn, schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema["properties"]
    ways = [way for one in schema.get("oneOf", ()) for way in one["required"]]
    names = set(schema.get("required", ()))
    if ways:
        names.add(draw(st.sampled_from(ways)))
    others = sorted(properties.keys() - names - set(ways))
    if others:
        names |= draw(st.sets(st.sampled_from(others), max_size=4))
    return {name: draw(_property(name, properties[name])) for name in sorted(names)}


def _property(name: str, schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if name not in SOUND:
        return values(schema)
    sound = st.sampled_from(SOUND[name])
    return sound | sound | sound | values(schema)


_KINDS: Final[Mapping[str, Callable[[Mapping[str, Any]], st.SearchStrategy[Any]]]] = {
    "null": lambda _: st.none(),
    "boolean": lambda _: st.booleans(),
    "integer": _integers,
    "number": _numbers,
    "string": _texts,
    "array": _arrays,
    "object": _any_objects,
}

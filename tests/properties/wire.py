"""Requests made from the API's description, sound ones and others, as the bytes on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from hypothesis import strategies as st

from tests.properties.from_schema import JUNK, mutants, values

if TYPE_CHECKING:
    from collections.abc import Mapping

Headers = tuple[tuple[str, bytes], ...]
TOKEN: Final = "correct-horse-battery"  # noqa: S105 - a test's
KNOWN: Final = {"name": ("mine", "filed", "paused", "a b/c", "default"), "id": ("1", "2", "3")}
_RAW_PATHS: Final = ("%00", "%ff", "%zz", "%", "%2F", "..", "%2e%2e", "a%0ab", "%F0%9F", "x" * 3000)
_RAW_QUERIES: Final = (
    "&&",
    "=",
    "%zz=%",
    "a=%ff",
    "limit=%00",
    "limit=1&limit=2",
    "limit",
    ";",
    "?",
)
_RAW_BODIES: Final = (
    b"",
    b"{",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b"null",
    b"NaN",
    b"[Infinity]",
    b"1e999",
    b'{"delay": 1e999, "type": "x"}',
    b"9" * 5_000,
    b'{"priority": ' + b"9" * 5_000 + b', "type": "x"}',
    b'"\\ud800"',
    b'{"type": "x", "type": "y"}',
    b"[" * 100_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'{"type": "x", "args": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
    b" " * (2 * 1024 * 1024 + 1),
)
_TYPES: Final = (
    *(b"application/json",) * 4,
    b"application/json; charset=latin-1",
    b"application/json; charset=nonsense",
    b"application/json;;=",
    b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=x",
    b"text/plain",
    b"garbage",
    b"",
    b"\xff",
)
_ODD_HEADERS: Final = (
    ("Content-Encoding", b"gzip"),
    ("Content-Encoding", b"deflate"),
    ("Content-Encoding", b"br"),
    ("Content-Encoding", b"x-unknown"),
    ("Expect", b"100-continue"),
    ("Expect", b"the unexpected"),
    ("Accept", b"text/html;q=\xff"),
    ("Accept-Encoding", b"gzip;q=nan"),
    ("Range", b"bytes=-"),
    ("If-Modified-Since", b"yesterday"),
    ("Cookie", b'a="\x80; ;='),
    ("Host", b"[::"),
    ("Host", b"evil.example:99999"),
    ("Origin", b"null"),
    ("X-Forwarded-For", b"\xff"),
    ("traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"),
    ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("traceparent", b"\xff" * 55),
)
_RIGHT: Final = ("Authorization", f"Bearer {TOKEN}".encode())
_TOKENS: Final = (
    _RIGHT,
    _RIGHT,
    _RIGHT,
    _RIGHT,
    ("Authorization", b"Bearer wrong"),
    ("Authorization", b"Bearer \xff\xfe"),
    ("Authorization", b"Basic Og=="),
    ("Authorization", b"Bearer"),
    ("X-Nothing", b""),
)


@dataclass(frozen=True)
class Request:
    """What is sent, and the operation it is made from."""

    operation: str
    method: str
    target: str
    headers: Headers
    body: bytes

    @property
    def looks(self) -> bool:
        """Whether it may change nothing."""
        return self.method == "GET"

    def wire(self) -> bytes:
        """Return the bytes of the request."""
        host = () if any(name == "Host" for name, _ in self.headers) else (("Host", b"localhost"),)
        length = ("Content-Length", str(len(self.body)).encode())
        headers = [*host, *self.headers, length, ("Connection", b"close")]
        lines = [f"{self.method} {self.target} HTTP/1.1".encode()]
        lines += [name.encode() + b": " + content for name, content in headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


@st.composite
def requests(draw: st.DrawFn, path: str, method: str, described: Mapping[str, Any]) -> Request:
    """Return requests for an operation: about half of them are sound."""
    odd = draw(st.booleans())
    place = path
    for each in described.get("parameters", ()):
        if each["in"] == "path":
            place = place.replace(f"{{{each['name']}}}", draw(_segments(each["name"], odd=odd)))
    query = draw(_queries(described.get("parameters", ()), odd=odd))
    body, kind = b"", None
    if "requestBody" in described:
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        body, kind = draw(_bodies(schema, odd=odd)), b"application/json"
    headers: list[tuple[str, bytes]] = [_RIGHT]
    if odd:
        kind = draw(st.sampled_from(_TYPES)) if draw(st.booleans()) else kind
        headers = [draw(st.sampled_from(_TOKENS))]
        headers += draw(st.lists(st.sampled_from(_ODD_HEADERS), max_size=2))
    if kind is not None:
        headers.append(("Content-Type", kind))
    target = f"{place}?{query}" if query else place
    return Request(described["operationId"], method.upper(), target, tuple(headers), body)


@st.composite
def _segments(draw: st.DrawFn, name: str, *, odd: bool) -> str:
    if not odd or draw(st.booleans()):
        return quote(draw(st.sampled_from(KNOWN[name])), safe="")
    if draw(st.booleans()):
        return draw(st.sampled_from(_RAW_PATHS))
    return _quoted(draw(st.text(min_size=1, max_size=8)))


@st.composite
def _queries(draw: st.DrawFn, parameters: Any, *, odd: bool) -> str:
    if odd and not draw(st.integers(0, 3)):
        return draw(st.sampled_from(_RAW_QUERIES))
    pairs = []
    for each in parameters:
        if each["in"] == "query" and not draw(st.integers(0, 2)):
            value = draw(values(each["schema"]))
            if odd and draw(st.booleans()):
                value = draw(st.sampled_from(JUNK))
            pairs.append((each["name"], _as_text(value)))
    return "&".join(f"{name}={_quoted(text[:2000])}" for name, text in pairs)


@st.composite
def _bodies(draw: st.DrawFn, schema: Mapping[str, Any], *, odd: bool) -> bytes:
    if odd and not draw(st.integers(0, 3)):
        return draw(st.sampled_from(_RAW_BODIES))
    value = draw(values(schema))
    if odd:
        value = draw(mutants(value))
    # Half a surrogate pair goes as an escape.
    return json.dumps(value).encode()


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")

"""Who may write: whoever holds the token, or, without one, whoever sits at this very machine.

A server that is bound to a loopback address and has no token trusts its machine. A web browser on
that machine runs code of strangers, so such a server also refuses what a page of another site could
send: a Host that is not a loopback name (DNS rebinding), an Origin that is not the server's own, a
Sec-Fetch-Site that says so. With a token none of this matters: no browser adds it by itself.
"""

from __future__ import annotations

import hmac
import ipaddress
from http import HTTPStatus
from typing import TYPE_CHECKING

from pillars.server.problems import ProblemError

if TYPE_CHECKING:
    from aiohttp import web

    from pillars.ground.settings import Secret, Settings

_HOW = (
    "start the server with PILLARS_API_TOKEN set to a long random text "
    "and send it as `Authorization: Bearer <token>`"
)
_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class Gate:
    """Decides for each write whether it may pass."""

    def __init__(self, settings: Settings) -> None:
        """Use the settings' token, or trust the machine if bound to a loopback address."""
        self._token = settings.api_token
        self._on_loopback = is_loopback(settings.host)

    def __call__(self, request: web.Request) -> None:
        """Let a write pass.

        Raises:
            ProblemError: 401 without the right token; 403 where none is set and the request comes,
                or may come, from elsewhere.
        """
        if self._token is not None:
            _require_token(request, self._token)
        elif not self._on_loopback:
            raise _forbidden(
                "token_needed",
                "this server is reachable from other machines and has no token, so it refuses "
                f"writes: {_HOW}",
            )
        else:
            _require_this_machine(request)


def is_loopback(host: str) -> bool:
    """Whether a host name or address leads to this machine and from nowhere else."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _require_token(request: web.Request, token: Secret) -> None:
    header = request.headers.get("Authorization", "")
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise _unauthorized(
            "token_missing",
            "writes need the token this server was started with (PILLARS_API_TOKEN): "
            "send it as `Authorization: Bearer <token>`",
            "Bearer",
        )
    ours = token.reveal().encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), ours):
        raise _unauthorized(
            "token_wrong",
            "this is not the token this server was started with (PILLARS_API_TOKEN)",
            'Bearer error="invalid_token"',
        )


def _require_this_machine(request: web.Request) -> None:
    host = request.headers.get("Host", "")
    if not is_loopback(_name(host)):
        raise _forbidden(
            "foreign_host",
            "without a token this server takes writes only under a loopback name, as "
            f"http://localhost or http://127.0.0.1; for another name {_HOW}",
        )
    if any(header in request.headers for header in _PROXY_HEADERS):
        raise _forbidden(
            "proxied",
            f"this request came through a proxy, and the server has no token: {_HOW}",
        )
    origin = request.headers.get("Origin")
    same_origin = origin is None or origin.lower() == f"{request.scheme}://{host}".lower()
    if not same_origin or request.headers.get("Sec-Fetch-Site", "none") not in _SAME_SITE:
        raise _forbidden(
            "cross_site",
            "this request comes from a page of another site, which may not write here without "
            f"the token: {_HOW}",
        )


_SAME_SITE = ("none", "same-origin")


def _name(host: str) -> str:
    # An IPv6 address has colons of its own, inside brackets.
    return host.partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _unauthorized(code: str, detail: str, challenge: str) -> ProblemError:
    headers = {"WWW-Authenticate": challenge}
    return ProblemError(HTTPStatus.UNAUTHORIZED, code, detail, headers=headers)


def _forbidden(code: str, detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.FORBIDDEN, code, detail)

"""Job types that every app knows, so that schedules in YAML are of use without any code."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pillars.ground.errors import PillarsError, did_you_mean
from pillars.worker.context import PermanentError, current_job

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import ClientResponse
    from yarl import URL

    from pillars.worker.registry import Registry

HTTP_TIMEOUT = 30.0
_SNIPPET = 500
_LEVELS = ("debug", "info", "warning", "error", "critical")
_WORTH_RETRYING = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS},
)
_SUCCESSES = range(200, 300)
_FOLLOWING = frozenset({"GET", "HEAD"})


class HttpJobError(PillarsError):
    """The request failed in a way that may pass."""


def register_builtins(registry: Registry) -> None:
    """Register `noop`, `log` and `http`."""
    registry.register("noop", noop)
    registry.register("log", log)
    registry.register("http", http)


async def noop(**_: object) -> None:
    """Do nothing, with any args."""


async def log(message: object, level: str = "info") -> None:
    """Log a message through the logger `pillars.job`.

    Raises:
        PermanentError: there is no such level.
    """
    if level not in _LEVELS:
        raise PermanentError(f"level {level!r} is none of {', '.join(_LEVELS)}{_near(level)}")
    current_job().logger.log(logging.getLevelNamesMapping()[level.upper()], "%s", message)


async def http(  # noqa: PLR0917 - called with keywords only, by name of the job's args
    url: str,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    json: Any = None,  # noqa: ANN401 - whatever the job's author wrote
    body: str | None = None,
    timeout: float = HTTP_TIMEOUT,  # noqa: ASYNC109 - an argument of the job
    expect: Collection[int] | None = None,
) -> None:
    """Send one HTTP request.

    The header Idempotency-Key carries the job's id unless `headers` sets it: a request may be sent
    more than once. Redirects are followed for GET and HEAD alone. No error holds header values, the
    query string or credentials.

    Args:
        url: http or https.
        method: POST unless told otherwise.
        headers: request headers.
        json: sent as JSON; not together with `body`.
        body: sent as it is.
        timeout: seconds for the whole request.
        expect: the statuses that are a success; 200 to 299 when not given.

    Raises:
        HttpJobError: no answer, 5xx, 408, 425 or 429: tried again.
        PermanentError: any other answer that was not expected, or args that can never work.
    """
    import aiohttp  # noqa: PLC0415 - a worker without http jobs need not load it

    target = _target(url)
    if json is not None and body is not None:
        raise PermanentError("json and body are both given: a request has one body")
    if not isinstance(body, str | None):
        raise PermanentError("body is not text: give json for anything else")
    if not isinstance(headers, dict | None):
        raise PermanentError("headers is not an object of names and values")
    method = method.upper()
    shown = f"{method} {_shown(target)}"
    sent = {"Idempotency-Key": f"pillars-{current_job().id}", **(headers or {})}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session,
            session.request(
                method,
                target,
                headers=sent,
                json=json,
                data=body,
                allow_redirects=method in _FOLLOWING,
            ) as response,
        ):
            await _judge(response, shown, expect)
    except TimeoutError:
        raise HttpJobError(f"{shown}: no answer within {timeout:g} s") from None
    except aiohttp.ClientConnectorError as error:
        raise HttpJobError(f"{shown}: {error}") from None
    except (aiohttp.ClientError, OSError) as error:
        # Their texts may quote the whole URL.
        raise HttpJobError(f"{shown}: {type(error).__name__}") from None
    except (TypeError, ValueError) as error:
        raise PermanentError(f"{shown}: cannot be sent: {type(error).__name__}") from None


async def _judge(response: ClientResponse, shown: str, expect: Collection[int] | None) -> None:
    status = response.status
    if status in (_SUCCESSES if expect is None else expect):
        return
    text = await response.content.read(_SNIPPET)
    snippet = " ".join(text.decode("utf-8", "replace").split())
    sentence = f"{shown} was answered {status}{f': {snippet}' if snippet else ''}"
    if status in _WORTH_RETRYING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise HttpJobError(sentence)
    raise PermanentError(sentence)


def _target(url: str) -> URL:
    from yarl import URL  # noqa: PLC0415 - comes with aiohttp, which is loaded late

    try:
        target = URL(url)
    except (TypeError, ValueError):
        raise PermanentError("the url cannot be parsed") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise PermanentError("the url is not an http(s) URL with a host")
    return target


def _shown(target: URL) -> str:
    return str(target.with_user(None).with_query(None).with_fragment(None))


def _near(level: str) -> str:
    return did_you_mean(str(level), _LEVELS)

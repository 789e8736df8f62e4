from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from pillars.ground.events import JobsEnqueued
from pillars.queue import jobs as queue_jobs
from pillars.queue.retry import Backoff, RetryPolicy
from pillars.server.job_bodies import MOST_JOBS, NAME
from pillars.server.operations import LARGEST_BODY
from tests.server.conftest import SomeApp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

    from tests.helpers import RecordingListener
    from tests.server.conftest import Client, Start

JOBS = "/api/v1/jobs"
HEADERS = {"Content-Type": "application/json"}


async def post(client: Client, body: object, path: str = JOBS) -> tuple[int, dict[str, Any]]:
    # A stream: the client warns of large bodies that are not.
    data = BytesIO(json.dumps(body).encode())
    response = await client.post(path, data=data, headers=HEADERS)
    return response.status, await response.json()


async def post_raw(client: Client, data: bytes) -> tuple[int, dict[str, Any]]:
    response = await client.post(JOBS, data=BytesIO(data), headers=HEADERS)
    assert response.content_type == "application/problem+json"
    return response.status, await response.json()


async def get(client: Client, path: str) -> tuple[int, dict[str, Any]]:
    response = await client.get(path)
    return response.status, await response.json()


def count(sql: psycopg.Connection[Any]) -> int:
    row = sql.execute("SELECT count(*) FROM pillars.jobs").fetchone()
    assert row is not None
    return row[0]


def pointers(problem: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in problem["errors"]]


@pytest.mark.parametrize(
    ("header", "stored"),
    [
        (f"00-{'ab' * 16}-{'cd' * 8}-01", f"00-{'ab' * 16}-{'cd' * 8}-01"),
        ("junk", None),
    ],
)
async def test_jobs_continue_the_trace_of_the_request_unless_its_header_is_none(
    client: Client,
    header: str,
    stored: str | None,
) -> None:
    response = await client.post(JOBS, json={"type": "x"}, headers={"traceparent": header})

    _, job = await get(client, response.headers["Location"])
    assert job["trace"] == stored


async def test_a_job_is_enqueued_with_all_its_fields(
    client: Client,
    events: RecordingListener,
) -> None:
    wanted = {
        "type": "mail.welcome",
        "args": {"to": "a@example.org", "emoji": "✉"},
        "queue": "mail",
        "priority": -5,
        "run_at": "2030-01-01T10:00:00+02:00",
        "max_attempts": 3,
        "timeout": 1.5,
    }

    response = await client.post(JOBS, json=wanted)

    assert response.status == 201
    (job_id,) = (await response.json())["ids"]
    assert response.headers["Location"] == f"{JOBS}/{job_id}"
    _, job = await get(client, response.headers["Location"])
    assert job["run_at"] == "2030-01-01T08:00:00.000000Z"
    kept = ("type", "args", "queue", "priority", "max_attempts", "timeout")
    assert {key: job[key] for key in kept} == {key: wanted[key] for key in kept}
    assert events.of(JobsEnqueued) == [JobsEnqueued("mail", 1)]


async def test_a_job_goes_to_the_queue_of_its_type_unless_told_otherwise(
    serve: Start,
    sql: psycopg.Connection[Any],
) -> None:
    app = SomeApp()
    app.registry.register("mail.welcome", print, queue="mail")
    client = await serve(app)

    await post(client, {"jobs": [{"type": "mail.welcome"}, {"type": "other"}]})
    await post(client, {"type": "mail.welcome", "queue": "default"})

    rows = sql.execute("SELECT queue FROM pillars.jobs ORDER BY id").fetchall()
    assert [row[0] for row in rows] == ["mail", "default", "default"]


async def test_a_job_is_enqueued_with_keys_and_limits(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    wanted = {
        "type": "a",
        "unique_key": "u",
        "unique_for": 3600,
        "concurrency_key": "c",
        "concurrency_limit": 3,
        "expires_in": 60,
    }

    first, answer = await post(client, wanted)
    second, same = await post(client, wanted)

    assert (first, second) == (201, 200)
    assert (answer["enqueued"], same["enqueued"]) == (1, 0)
    assert answer["ids"] == same["ids"]
    rows = sql.execute(
        "SELECT id, unique_key, unique_until - created_at = '1 hour', concurrency_key,"
        " concurrency_limit, expires_at - run_at = '1 minute' FROM pillars.jobs"
    ).fetchall()
    assert rows == [(answer["ids"][0], "u", True, "c", 3, True)]


async def test_a_retry_policy_is_completed_and_kept(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    status, _ = await post(client, {"type": "a", "retry": {"max_attempts": 9, "backoff": "linear"}})

    assert status == 201
    policy = RetryPolicy(max_attempts=9, backoff=Backoff.LINEAR)
    assert sql.execute("SELECT max_attempts, retry FROM pillars.jobs").fetchall() == [
        (9, policy.as_dict())
    ]


async def test_each_fault_of_a_retry_policy_is_named(dry: Client) -> None:
    retry = {"backof": "linear", "base": "10s", "backoff": "fibonacci", "max": -1}

    _, problem = await post(dry, {"type": "a", "retry": retry})

    assert pointers(problem) == ["#/retry"]
    (error,) = problem["errors"]
    for part in (
        "unknown key 'backof', did you mean 'backoff'?",
        "base must be a number of seconds, not a string",
        "backoff must be one of exponential, linear, constant",
        "max must be 0 to 3155760000 seconds",
    ):
        assert part in error["detail"]


async def test_a_delay_counts_by_the_clock_of_the_database(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    status, _ = await post(client, {"type": "a", "delay": 90})

    assert status == 201
    row = sql.execute("SELECT extract(epoch FROM run_at - created_at) FROM pillars.jobs").fetchone()
    assert row is not None
    assert float(row[0]) == pytest.approx(90, abs=1)


async def test_null_is_the_same_as_not_given(client: Client) -> None:
    status, _ = await post(client, {"type": "a", "args": None, "run_at": None, "delay": None})

    assert status == 201


async def test_a_batch_is_enqueued_in_order(client: Client, sql: psycopg.Connection[Any]) -> None:
    jobs = [{"type": f"t{number}"} for number in range(MOST_JOBS)]

    status, answer = await post(client, {"jobs": jobs})

    assert status == 201
    rows = sql.execute("SELECT id, type FROM pillars.jobs ORDER BY id").fetchall()
    assert [row[0] for row in rows] == answer["ids"]
    assert [row[1] for row in rows] == [job["type"] for job in jobs]


async def test_a_batch_with_one_bad_job_enqueues_none(
    client: Client,
    sql: psycopg.Connection[Any],
) -> None:
    status, problem = await post(client, {"jobs": [{"type": "a"}, {"type": "no good"}]})

    assert status == 422
    assert pointers(problem) == ["#/jobs/1/type"]
    assert count(sql) == 0


async def test_all_faults_are_named_at_once_with_a_pointer_each(dry: Client) -> None:
    status, problem = await post(
        dry,
        {
            "jobs": [
                {"typ": "a", "priority": 1.5},
                "not a job",
                {"type": "a", "args": [], "timeout": 0, "max_attempts": True},
                {"type": "a", "run_at": "2030-01-01 10:00", "delay": -1, "queue": 7},
                {"type": "a", "run_at": "2030-01-01T10:00:00Z", "delay": 1},
            ],
        },
    )

    assert status == 422
    assert pointers(problem) == [
        "#/jobs/0/typ",
        "#/jobs/0/priority",
        "#/jobs/0/type",
        "#/jobs/1",
        "#/jobs/2/args",
        "#/jobs/2/timeout",
        "#/jobs/2/max_attempts",
        "#/jobs/3/run_at",
        "#/jobs/3/delay",
        "#/jobs/3/queue",
        "#/jobs/4/delay",
    ]
    assert problem["errors"][0]["did_you_mean"] == "type"


async def test_a_flood_of_faults_is_cut(dry: Client) -> None:
    _, problem = await post(dry, {"jobs": [{}] * 500})

    assert len(problem["errors"]) == 100
    assert problem["detail"] == "500 things are wrong with the request; the first 100 are listed"


@pytest.mark.parametrize("body", [{"jobs": []}, {"jobs": [{"type": "a"}] * (MOST_JOBS + 1)}])
async def test_a_batch_has_bounds(dry: Client, body: dict[str, Any]) -> None:
    status, problem = await post(dry, body)

    assert status == 422
    assert pointers(problem) == ["#/jobs"]


async def test_a_number_of_the_wrong_kind_is_told_what_it_should_be(dry: Client) -> None:
    _, problem = await post(
        dry, {"type": "a", "priority": 1.5, "timeout": "1m", "max_attempts": "5"}
    )

    assert [error["detail"] for error in problem["errors"]] == [
        "priority must be a whole number, not 1.5",
        "timeout must be a number of seconds, not a string",
        "max_attempts must be a whole number, not a string",
    ]


async def test_keys_beside_a_batch_are_unknown(dry: Client) -> None:
    status, problem = await post(dry, {"jobs": [{"type": "a"}], "queue": "mail"})

    assert status == 422
    assert pointers(problem) == ["#/queue"]


@pytest.mark.parametrize(
    "fields",
    [
        {"args": {"a": "x\0y"}},
        {"args": {"a\0": 1}},
        {"args": {"a": "\ud800"}},
        {"args": {"a": "x" * 1_100_000}},
        {"args": {"a": float("1e300")}, "type": "x\0"},
        {"type": "\udc00"},
        {"type": ""},
        {"type": "x" * 129},
        {"queue": "<script>"},
        {"priority": 32_768},
        {"priority": "1"},
        {"max_attempts": 0},
        {"timeout": 1e300},
        {"timeout": 5e-324},
        {"timeout": 10**400},
        {"delay": 1e18},
        {"retry": 5},
        {"retry": {"max_attempts": 0}},
        {"unique_key": ""},
        {"unique_key": "x\0"},
        {"unique_key": "x" * 257},
        {"unique_for": 60},
        {"unique_for": 0, "unique_key": "x"},
        {"concurrency_limit": 2},
        {"concurrency_limit": 1_001, "concurrency_key": "x"},
        {"concurrency_key": "schedule:nightly"},
        {"expires_in": 0},
        {"run_at": "0001-01-01T00:00:00+23:59"},
        {"run_at": "9999-12-31T23:59:59-23:59"},
        {"run_at": "2030-02-30T00:00:00Z"},
        {"run_at": "2030-01-01T00:00:00"},
        {"run_at": "٢٠٣٠-01-01T00:00:00Z"},
        {"run_at": 1_900_000_000},
    ],
    ids=lambda fields: str(fields)[:40],
)
async def test_what_no_worker_could_use_is_refused(dry: Client, fields: dict[str, Any]) -> None:
    status, problem = await post(dry, {"type": "a", **fields})

    assert status == 422
    assert len(str(problem)) < 1_000


async def test_broken_json_is_answered_with_its_position(dry: Client) -> None:
    status, problem = await post_raw(dry, b'{"type":\n "a",, }')

    assert status == 400
    assert (problem["code"], problem["line"], problem["column"]) == ("json_syntax", 2, 6)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"type": "a", "args": {"x": NaN}}',
        b'{"type": "a", "priority": ' + b"9" * 5_000 + b"}",
    ],
    ids=["empty", "not UTF-8", "deep", "NaN", "endless number"],
)
async def test_what_is_not_json_is_answered_with_a_reason(dry: Client, data: bytes) -> None:
    status, problem = await post_raw(dry, data)

    assert status == 400
    assert problem["detail"].startswith("the body is not JSON: ")


@pytest.mark.parametrize("value", [None, 1, "a", [], [{"type": "a"}], True])
async def test_json_that_is_no_object_is_refused(dry: Client, value: object) -> None:
    status, problem = await post_raw(dry, b"null") if value is None else await post(dry, value)

    assert status == 422
    assert pointers(problem) == ["#"]


async def test_a_huge_body_is_refused_before_it_is_read(dry: Client) -> None:
    status, problem = await post_raw(dry, b" " * (LARGEST_BODY + 1))

    assert (status, problem["code"]) == (413, "body_too_large")


async def test_a_huge_body_of_undeclared_length_is_refused(dry: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LARGEST_BODY // 65_536 + 1):
            yield b" " * 65_536

    response = await dry.post(JOBS, data=chunks(), headers=HEADERS)

    assert response.status == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [b'{"type": "a"}', b'{"a":' * 20_000])
async def test_a_body_that_is_not_compressed_as_it_says_is_refused(
    dry: Client, encoding: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillars.server.operations.BODY_PATIENCE", 0.1)
    headers = {**HEADERS, "Content-Encoding": encoding}

    response = await dry.post(JOBS, data=body, headers=headers)

    assert (response.status, (await response.json())["code"]) == (400, "body_unreadable")


async def test_jobs_are_listed_newest_first_page_by_page(client: Client) -> None:
    _, answer = await post(client, {"jobs": [{"type": f"t{number}"} for number in range(5)]})

    path: str | None = f"{JOBS}?limit=2&state=available"
    seen: list[list[int]] = []
    while path is not None:
        _, page = await get(client, path)
        seen.append([job["id"] for job in page["jobs"]])
        path = page["next"]

    newest = sorted(answer["ids"], reverse=True)
    assert seen == [newest[0:2], newest[2:4], newest[4:5]]


async def test_jobs_are_listed_by_type_and_queue(client: Client) -> None:
    jobs = [{"type": "a"}, {"type": "b"}, {"type": "b", "queue": "other"}]
    await post(client, {"jobs": jobs})

    _, page = await get(client, f"{JOBS}?type=b&queue=other")

    assert [(job["type"], job["queue"]) for job in page["jobs"]] == [("b", "other")]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=9999", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&limit=2", "limit"),
        ("before=99999999999999999999", "before"),
        ("before=-1", "before"),
        ("state=deed", "state"),
        ("type=%00", "type"),
        ("schedule=%00", "schedule"),
        ("queues=mail", "queues"),
    ],
)
async def test_a_bad_query_is_refused(dry: Client, query: str, parameter: str) -> None:
    status, problem = await get(dry, f"{JOBS}?{query}")

    assert status == 422
    assert [error["parameter"] for error in problem["errors"]] == [parameter]


@pytest.mark.parametrize(
    "word", ["0", "9999", "99999999999999999999", "-1", "x", "%00", "1e3", "٣"]
)
async def test_an_id_of_no_job_is_not_found(client: Client, word: str) -> None:
    status, problem = await get(client, f"{JOBS}/{word}")

    assert (status, problem["code"]) == (404, "job_not_found")


async def test_a_waiting_job_is_cancelled_with_its_reason_and_can_be_retried(
    client: Client,
) -> None:
    _, answer = await post(client, {"type": "a"})
    path = f"{JOBS}/{answer['ids'][0]}"

    status, job = await post(client, {"reason": "not wanted"}, f"{path}/cancel")
    assert (status, job["state"], job["reason"]) == (200, "cancelled", "not wanted")
    response = await client.post(f"{path}/retry")
    assert (response.status, (await response.json())["state"]) == (200, "available")


async def test_a_job_in_the_wrong_state_is_a_conflict(client: Client) -> None:
    _, answer = await post(client, {"type": "a"})
    job_id = answer["ids"][0]

    status, problem = await post(client, {}, f"{JOBS}/{job_id}/retry")

    assert (status, problem["code"]) == (409, "job_state")
    assert problem["detail"] == f"job {job_id} is available: it cannot be retried"


@pytest.mark.parametrize("body", [{"reasn": "x"}, {"reason": "x\0"}, {"reason": 1}, []])
async def test_a_bad_reason_is_refused(dry: Client, body: object) -> None:
    status, _ = await post(dry, body, f"{JOBS}/1/cancel")

    assert status == 422


def test_the_described_pattern_of_names_is_the_one_the_queue_holds_to() -> None:
    assert queue_jobs._NAME.pattern == NAME

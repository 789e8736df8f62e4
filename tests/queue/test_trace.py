from __future__ import annotations

import pytest

from pillars.queue.jobs import JobError, NewJob, check_job, in_trace
from pillars.queue.trace import read_traceparent, trace_id

ID, SPAN = "ab" * 16, "cd" * 8
GOOD = f"00-{ID}-{SPAN}-01"


def test_a_traceparent_is_read_as_it_is() -> None:
    assert read_traceparent(GOOD) == GOOD


@pytest.mark.parametrize("more", ["", "-what-comes-later"])
def test_a_later_version_is_read_for_what_we_know_of_it(more: str) -> None:
    assert read_traceparent(f"01-{ID}-{SPAN}-01{more}") == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{ID}-{SPAN}",
        f"00-{ID}-{SPAN}-01-more",
        f"ff-{ID}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01\n",
        f" {GOOD}",
    ],
)
def test_what_is_no_traceparent_says_nothing(text: str) -> None:
    assert read_traceparent(text) is None
    with pytest.raises(JobError, match="is no W3C traceparent"):
        check_job(NewJob("x", trace=text))


def test_the_id_of_a_trace_is_what_it_is_found_by() -> None:
    assert [trace_id(text) for text in (GOOD, "junk", None)] == [ID, None, None]


def test_jobs_become_part_of_a_trace_unless_they_are_of_another() -> None:
    jobs = [NewJob("a"), NewJob("b", trace=GOOD.replace("ab", "ef"))]

    assert in_trace(jobs, None) == jobs
    assert [trace_id(job.trace) for job in in_trace(jobs, GOOD)] == [ID, ID.replace("ab", "ef")]

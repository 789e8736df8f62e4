from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pillars.db.arrays import int_array, text_array

if TYPE_CHECKING:
    import psycopg

# Half surrogate pairs and NUL are no text to PostgreSQL.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ON_ONE_DATABASE = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(st.lists(st.none() | TEXT | st.sampled_from(["NULL", "null", "", '"', "\\", "{}", "a,b"])))
@ON_ONE_DATABASE
def test_texts_arrive_as_they_were(sql: psycopg.Connection[Any], texts: list[str | None]) -> None:
    assert sql.execute("SELECT %s::text[]", (text_array(texts),)).fetchone() == (texts,)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
@ON_ONE_DATABASE
def test_numbers_arrive_as_they_were(
    sql: psycopg.Connection[Any], numbers: list[int | None]
) -> None:
    assert sql.execute("SELECT %s::bigint[]", (int_array(numbers),)).fetchone() == (numbers,)

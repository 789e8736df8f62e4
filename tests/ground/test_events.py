from __future__ import annotations

import dataclasses

import pytest

from pillars.ground import events as module
from pillars.ground.events import Event, Events, JobsPruned, JobsReturned

KINDS = [
    kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Event)
]


def test_an_event_goes_to_the_listeners_of_its_type_in_their_order() -> None:
    heard: list[tuple[str, int]] = []
    events = Events()
    events.subscribe(JobsPruned, lambda event: heard.append(("first", event.count)))
    events.subscribe(JobsPruned, lambda event: heard.append(("second", event.count)))
    events.subscribe(JobsReturned, lambda event: heard.append(("other", event.count)))

    events(JobsPruned(3))

    assert heard == [("first", 3), ("second", 3)]


def test_an_event_nobody_listens_to_is_no_fault() -> None:
    Events()(JobsPruned(1))


def test_a_listener_of_the_base_hears_nothing() -> None:
    heard: list[Event] = []
    events = Events()
    events.subscribe(Event, heard.append)

    events(JobsPruned(1))

    assert heard == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_a_frozen_value_that_says_what_happened(kind: type[Event]) -> None:
    assert kind.__doc__
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert "__slots__" in vars(kind)

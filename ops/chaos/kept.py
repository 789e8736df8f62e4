"""The evidence of a run as a file, which can be judged again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.chaos.arena import NemesisError, Plan
from ops.chaos.evidence import Deed, Evidence, Job, Line, Pin, Ring, RingChange, Run
from ops.chaos.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable

    Values = dict[str, Any]

FILE = "evidence.json"


def _deed(values: Values) -> Deed:
    forgets = values["forgets"] and tuple(values["forgets"])
    return Deed(**values | {"harmed": tuple(values["harmed"]), "forgets": forgets})


def _ring(values: Values) -> Ring:
    return Ring(tuple(values["owners"]), frozenset(values["crons"]))


def _listed(make: Callable[..., object]) -> Callable[[list[Values]], list[object]]:
    return lambda rows: [make(**row) for row in rows]


def _tuples(rows: list[list[object]]) -> list[tuple[object, ...]]:
    return [tuple(row) for row in rows]


# What JSON does not give back as it was.
_FIELDS: dict[str, Callable[[Any], object]] = {
    "loads": _listed(Load),
    "jobs": _listed(Job),
    "runs": _listed(Run),
    "ring": _ring,
    "ring_log": _listed(RingChange),
    "lines": _listed(Line),
    "deeds": lambda rows: [_deed(row) for row in rows],
    "pins": _listed(Pin),
    "acknowledged": lambda found: {int(job_id): at for job_id, at in found.items()},
    "paused": _tuples,
    "backfilled": _tuples,
    "in_force": frozenset,
    "sessions": _tuples,
    "unsettled": tuple,
    "memory": lambda found: {who: _tuples(samples) for who, samples in found.items()},
    "clocks": lambda found: {who: _tuples(changes) for who, changes in found.items()},
}


def keep(directory: Path, where: str, plan: Plan, evidence: Evidence) -> None:
    """Write where a run was, what it was to be, and what it left."""
    run = {"where": where, "plan": asdict(plan), "evidence": asdict(evidence)}
    (directory / FILE).write_text(json.dumps(run, default=_encodable) + "\n")


def read(directory: Path) -> tuple[str, Plan, Evidence]:
    """Return what `keep` wrote.

    Raises:
        NemesisError: there is no such file, or it is of another making.
    """
    try:
        run = json.loads((directory / FILE).read_text())
        return run["where"], _plan(run["plan"], directory), _evidence(run["evidence"])
    except OSError as error:
        raise NemesisError(f"{error}: --keep writes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NemesisError(f"{directory / FILE} is of another version: {error!r}") from None


def _plan(values: Values, directory: Path) -> Plan:
    return Plan(**values | {"faults": tuple(values["faults"]), "keep": directory})


def _evidence(values: Values) -> Evidence:
    made = {name: make(values[name]) for name, make in _FIELDS.items()}
    return Evidence(**values | made)


def _encodable(value: object) -> object:
    return str(value) if isinstance(value, Path) else sorted(value)  # type: ignore[call-overload]

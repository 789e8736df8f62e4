"""CronJob manifests of Kubernetes, batch/v1 and v1beta1, in YAML or JSON.

Sources: the API reference of CronJob v1, the controller's rules for missed starts, and the manual
of robfig/cron, which reads the expressions: times that clocks jump over do not run, those that come
twice run twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from pillars.cron.duration import format_duration
from pillars.cron.imports.draft import (
    Draft,
    ImportSourceError,
    UntranslatableError,
    settle,
)
from pillars.cron.imports.fields import Days, our_cron

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pillars.cron.imports.draft import Imported

_DEEPEST: Final = 50
_OVERLAP: Final = {"Allow": "allow", "Forbid": "skip", "Replace": "cancel_other"}
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PREFIX: Final = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)", re.DOTALL)
_DURATION: Final = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:h|ms|m|s))+", re.ASCII)
_JOB_KEYS: Final = frozenset({"template", "activeDeadlineSeconds", "backoffLimit"})
_POD_KEYS: Final = frozenset({"containers", "restartPolicy"})
_CONTAINER_KEYS: Final = frozenset({"name", "image", "command", "args", "env"})
_SPEC_KEYS: Final = frozenset(
    {
        "schedule",
        "timeZone",
        "concurrencyPolicy",
        "startingDeadlineSeconds",
        "suspend",
        "jobTemplate",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    }
)


def read_kubernetes(text: str, *, job: str, timezone: str | None) -> Imported:
    """Return drafts of the CronJobs in manifests; other objects are passed over.

    Args:
        text: YAML of any number of documents, also of kind List.
        job: the job type that runs containers; its args are image, command, args and env.
        timezone: where a manifest names none; None assumes UTC and says so.

    Raises:
        ImportSourceError: it is not YAML, or is nested too deep.
    """
    reading = _Reading(job, timezone)
    objects = list(_objects(text))
    jobs = [each for each in objects if each.get("kind") == "CronJob"]
    drafts = [reading.draft(each) for each in jobs]
    notes, remarks = [], []
    if timezone is None and reading.zoneless:
        notes.append(
            "no --timezone: UTC is assumed where timeZone is not given, while Kubernetes goes by"
            " the zone of its controller"
        )
    if len(jobs) < len(objects):
        remarks.append(f"Passed over: {len(objects) - len(jobs):,} objects of other kinds.")
    return settle(drafts, {}, notes, remarks)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for document in _documents(text):
        is_list = isinstance(document, dict) and str(document.get("kind", "")).endswith("List")
        items = document.get("items") if is_list else [document]
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict):
                yield item


def _documents(text: str) -> list[Any]:
    """Return all documents with every scalar as text, so that no value is taken for another."""
    try:
        depth = 0
        # libyaml's loader recurses as deep as the text is nested: look before.
        for event in yaml.parse(text, Loader=yaml.CBaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ImportSourceError(f"is nested more than {_DEEPEST} deep")
        return list(yaml.load_all(text, Loader=yaml.CBaseLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ImportSourceError(f"{line}is not YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise ImportSourceError(f"is not YAML: {error}") from None


class _Reading:
    """One import; remembers whether a manifest named no zone."""

    def __init__(self, job: str, timezone: str | None) -> None:
        self._job = job
        self._timezone = timezone
        self.zoneless = False

    def draft(self, manifest: dict[str, Any]) -> Draft:
        metadata = _mapping(manifest, "metadata")
        name = _text(metadata, "name") or _text(metadata, "generateName") or "cronjob"
        space = _text(metadata, "namespace")
        full = name if space in {None, "default"} else f"{space}.{name}"
        spec = _mapping(manifest, "spec")
        notes: list[str] = []
        keys: dict[str, Any] | None
        try:
            keys = self._when(spec, notes) | {"job": self._job} | _template(spec, notes)
            keys |= _policies(spec, notes)
        except UntranslatableError as error:
            keys = None
            notes.append(str(error))
        original = f"schedule: {_text(spec, 'schedule')}"
        return Draft(full, keys, "CronJob", original, tuple(notes))

    def _when(self, spec: dict[str, Any], notes: list[str]) -> dict[str, Any]:
        text = (_text(spec, "schedule") or "").strip()
        zone = _text(spec, "timeZone")
        if match := _PREFIX.fullmatch(text):
            zone, text = zone or match[1], match[2].strip()
        if text.startswith("@every"):
            notes.append("@every counts from the creation of the CronJob; here it is from 1970 on")
            return {"every": _every(text.removeprefix("@every").strip())}
        self.zoneless = self.zoneless or zone is None
        zone = zone or self._timezone
        cron = text if text.startswith("@") else our_cron(text.split(), Days.EITHER)
        found: dict[str, Any] = {"cron": cron}
        if zone not in {None, "UTC", "Etc/UTC", "Local"}:
            found |= {"timezone": zone, "dst": {"missing": "skip", "ambiguous": "both"}}
        return found


def _every(text: str) -> str:
    if not _DURATION.fullmatch(text):
        raise UntranslatableError(f"@every {text!r} is no duration")
    parts = re.findall(r"([\d.]+)(h|ms|m|s)", text)
    return format_duration(sum(float(count) * _SECONDS[unit] for count, unit in parts))


def _policies(spec: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    policy = _text(spec, "concurrencyPolicy") or "Allow"
    if policy not in _OVERLAP:
        raise UntranslatableError(f"concurrencyPolicy {policy!r} is unknown")
    if policy != "Allow":
        keys["overlap"] = _OVERLAP[policy]
    deadline = _number(spec, "startingDeadlineSeconds")
    if deadline is not None:
        keys["catchup_window"] = f"{deadline}s"
        if policy == "Forbid":
            notes.append(
                "with Forbid and startingDeadlineSeconds a skipped run may still start late;"
                " `overlap: buffer_one` comes near"
            )
    if _text(spec, "suspend") == "true":
        keys["enabled"] = False
    limits = [
        key for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit") if key in spec
    ]
    if limits:
        notes.append(f"{' and '.join(limits)}: kept jobs are limited by age, PILLARS_RETENTION")
    _note_rest("spec", spec, _SPEC_KEYS, notes)
    return keys


def _template(spec: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    job = _mapping(_mapping(spec, "jobTemplate"), "spec")
    pod = _mapping(_mapping(job, "template"), "spec")
    keys: dict[str, Any] = {"args": _container(pod, notes)}
    deadline = _number(job, "activeDeadlineSeconds")
    if deadline is not None:
        keys["timeout"] = f"{deadline}s"
    limit = _number(job, "backoffLimit")
    if limit is not None:
        # The Job controller waits 10 s, 20 s, 40 s and so on, six minutes at most.
        keys["retry"] = {"max_attempts": limit + 1, "base": "10s", "max": "6m"}
    if _text(pod, "restartPolicy") == "OnFailure":
        notes.append("restartPolicy: OnFailure restarts containers in place: here a job is retried")
    _note_rest("job", job, _JOB_KEYS, notes)
    _note_rest("pod", pod, _POD_KEYS, notes)
    return keys


def _container(pod: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    containers = pod.get("containers")
    first = containers[0] if isinstance(containers, list) and containers else None
    if not isinstance(first, dict):
        raise UntranslatableError("has no container")
    if isinstance(containers, list) and len(containers) > 1:
        notes.append(f"has {len(containers)} containers: only the first is carried over")
    args: dict[str, Any] = {}
    if image := _text(first, "image"):
        args["image"] = image
    for key in ("command", "args"):
        if key in first:
            args[key] = _texts(first[key], key)
    env = first.get("env")
    known = {}
    for each in env if isinstance(env, list) else ():
        name = _text(each, "name") if isinstance(each, dict) else None
        value = _text(each, "value") if isinstance(each, dict) else None
        if name and isinstance(each, dict) and "valueFrom" not in each:
            known[name] = value or ""
        elif name:
            notes.append(f"env {name}: valueFrom is not carried over; the worker must have it")
    if known:
        args["env"] = known
    _note_rest("container", first, _CONTAINER_KEYS, notes)
    return args


def _note_rest(
    where: str, mapping: dict[str, Any], known: frozenset[str], notes: list[str]
) -> None:
    if rest := sorted(str(key) for key in mapping if key not in known):
        notes.append(f"not carried over from the {where}: {', '.join(rest)}")


def _mapping(raw: dict[str, Any], key: str) -> dict[str, Any]:
    found = raw.get(key)
    return found if isinstance(found, dict) else {}


def _text(raw: dict[str, Any], key: str) -> str | None:
    found = raw.get(key)
    return found if isinstance(found, str) and found not in {"", "null", "~"} else None


def _texts(raw: object, key: str) -> Sequence[str]:
    if not isinstance(raw, list) or not all(isinstance(each, str) for each in raw):
        raise UntranslatableError(f"{key} is no list of texts")
    return raw


def _number(raw: dict[str, Any], key: str) -> int | None:
    text = _text(raw, key)
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise UntranslatableError(f"{key} is no number: {text[:40]!r}")
    return int(text)

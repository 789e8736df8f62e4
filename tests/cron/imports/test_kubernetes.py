from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pillars.cron.imports.draft import ImportSourceError
from pillars.cron.imports.kubernetes import read_kubernetes

if TYPE_CHECKING:
    from pillars.cron.imports.draft import Draft, Imported

NIGHTLY = """\
apiVersion: v1
kind: Service
metadata: {name: other}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: reports}
spec:
  schedule: "30 2 * * *"
  timeZone: Europe/Berlin
  concurrencyPolicy: Forbid
  suspend: true
  startingDeadlineSeconds: 600
  successfulJobsHistoryLimit: 1
  jobTemplate:
    spec:
      backoffLimit: 2
      activeDeadlineSeconds: 900
      template:
        spec:
          restartPolicy: OnFailure
          serviceAccountName: reporter
          containers:
            - name: main
              image: example.org/report:1.2
              command: [report]
              args: ["--day", "on"]
              env:
                - {name: LEVEL, value: "010"}
                - name: TOKEN
                  valueFrom: {secretKeyRef: {name: s, key: k}}
"""


def read(text: str, timezone: str | None = "UTC") -> Imported:
    return read_kubernetes(text, job="container", timezone=timezone)


def cronjob(**spec: Any) -> str:
    container = {"containers": [{"name": "c", "image": "i"}]}
    return yaml.safe_dump(
        {
            "kind": "CronJob",
            "metadata": {"name": "c"},
            "spec": {
                "schedule": "0 6 * * *",
                "jobTemplate": {"spec": {"template": {"spec": container}}},
                **spec,
            },
        }
    )


def one(text: str) -> Draft:
    (draft,) = read(text).drafts
    return draft


def test_a_manifest_becomes_a_schedule() -> None:
    imported = read(NIGHTLY)
    (draft,) = imported.drafts

    assert draft.name == "reports.nightly"
    assert draft.keys == {
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "dst": {"missing": "skip", "ambiguous": "both"},
        "job": "container",
        "args": {
            "image": "example.org/report:1.2",
            "command": ["report"],
            "args": ["--day", "on"],
            "env": {"LEVEL": "010"},
        },
        "timeout": "900s",
        "retry": {"max_attempts": 3, "base": "10s", "max": "6m"},
        "overlap": "skip",
        "catchup_window": "600s",
        "enabled": False,
    }
    assert "1 objects of other kinds" in imported.remarks[0]
    for said in ("serviceAccountName", "TOKEN", "OnFailure", "HistoryLimit", "buffer_one"):
        assert said in " ".join(draft.notes)


@pytest.mark.parametrize(
    ("policy", "overlap"), [("Allow", None), ("Forbid", "skip"), ("Replace", "cancel_other")]
)
def test_policies_of_concurrency_are_policies_of_overlap(policy: str, overlap: str | None) -> None:
    draft = one(cronjob(concurrencyPolicy=policy))

    assert draft.keys is not None
    assert draft.keys.get("overlap") == overlap


@pytest.mark.parametrize(
    ("schedule", "found"),
    [
        ("@every 1h30m", {"every": "1h30m"}),
        ("@daily", {"cron": "@daily"}),
        ("TZ=Etc/UTC 0 6 * * *", {"cron": "0 6 * * *"}),
        ("0 6 ? * SUN", {"cron": "0 6 ? * sun"}),
        ("5/15 * * * *", {"cron": "5/15 * * * *"}),
        ("0 6 */2 * mon", {"cron": "0 6 */2 * mon"}),
    ],
)
def test_schedules_are_read_as_kubernetes_does(schedule: str, found: dict[str, str]) -> None:
    draft = one(cronjob(schedule=schedule))

    assert draft.keys is not None
    assert {key: draft.keys[key] for key in found} == found
    assert "timezone" not in draft.keys


def test_a_zone_before_the_expression_is_its_time_zone() -> None:
    draft = one(cronjob(schedule="CRON_TZ=Asia/Tokyo 0 6 * * *"))

    assert draft.keys is not None
    assert (draft.keys["cron"], draft.keys["timezone"]) == ("0 6 * * *", "Asia/Tokyo")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"schedule": "@every soon"}, "no duration"),
        ({"schedule": ""}, "0 fields"),
        ({"timeZone": "Mars/Olympus"}, "not an IANA time zone"),
        ({"jobTemplate": {}}, "no container"),
        ({"concurrencyPolicy": "Perhaps"}, "unknown"),
        ({"startingDeadlineSeconds": "x"}, "no number"),
    ],
)
def test_what_cannot_be_translated_is_said(spec: dict[str, Any], said: str) -> None:
    draft = one(cronjob(**spec))

    assert draft.keys is None
    assert said in " ".join(draft.notes)


def test_a_list_of_manifests_is_read() -> None:
    item = yaml.safe_load(cronjob())
    text = yaml.safe_dump({"kind": "List", "items": [item, item]})

    assert [draft.name for draft in read(text).drafts] == ["c", "c-2"]


def test_an_assumed_time_zone_is_said() -> None:
    assert "UTC is assumed" in read(cronjob(), None).notes[0]
    assert read(cronjob(timeZone="UTC"), None).notes == ()


@pytest.mark.parametrize("text", ["[" * 100_000, "a: [", "- " * 5000, "\x07", "%TAG", "&a [*a]"])
def test_hostile_text_is_refused_with_a_sentence(text: str) -> None:
    try:
        assert read(text).drafts == ()
    except ImportSourceError as error:
        assert str(error).endswith(("deep", "")) and "is " in str(error)  # noqa: PT018, PT017

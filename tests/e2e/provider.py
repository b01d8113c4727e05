"""A provider that hands in mail over HTTP and does not give up: like an MTA, it brings a mail until it is answered."""

import time
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import requests

from tests.inbound import PATH, TOKEN

PATIENCE = 60.0
PAUSE = 0.02
"""Seconds between two attempts. The provider's own manner: no test waits by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """What one attempt came to: 0 where the connection failed before an answer."""

    status: int
    body: dict[str, Any]


def hand_in(port: int, raw: bytes, *recipients: str, as_json: bool = False, event_id: str | None = None) -> Handed:
    """One attempt."""
    url, headers = f"http://127.0.0.1:{port}{PATH}", {"Authorization": f"Bearer {TOKEN}"}
    try:
        if as_json:
            given = {"event_id": event_id, "recipients": recipients, "raw_mime_base64": b64encode(raw).decode()}
            reply = requests.post(url, json=given, headers=headers, timeout=30)
        else:
            headers["Content-Type"] = "message/rfc822"
            query: list[tuple[str, str]] = [("recipient", one) for one in recipients]
            query += [("event_id", event_id)] if event_id is not None else []
            reply = requests.post(url, data=raw, params=query, headers=headers, timeout=30)
    except requests.ConnectionError:
        return Handed(status=0, body={})
    return Handed(status=reply.status_code, body=reply.json())


def insist(port: int, raw: bytes, *recipients: str, as_json: bool = False, event_id: str | None = None) -> list[Handed]:
    """Attempts until there is an answer that is no 503."""
    attempts: list[Handed] = []
    end = time.monotonic() + PATIENCE
    while not attempts or attempts[-1].status in (0, 503):
        assert time.monotonic() < end, "no answer"
        if attempts:
            time.sleep(PAUSE)
        attempts.append(hand_in(port, raw, *recipients, as_json=as_json, event_id=event_id))
    return attempts

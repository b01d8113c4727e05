"""The expected JSON of mime-stalwart, as a Reading. Made by another reader (Rust), so an oracle, not the truth."""

import json
from binascii import a2b_base64
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.oracle.reading import Leaf, Reading

Json = dict[str, Any]
_IDS = {"message_id": "message-id", "in_reply_to": "in-reply-to", "references": "references"}


def mail_of(path: Path) -> bytes:
    """The mail that a JSON file tells of: with LF, or with CRLF where the name says so."""
    crlf = path.name.endswith(".crlf.json")
    mail = path.with_name(path.name.removesuffix(".json").removesuffix(".crlf") + ".eml").read_bytes()
    mail = mail.replace(b"\r\n", b"\n")
    return mail.replace(b"\n", b"\r\n") if crlf else mail


def expected(path: Path) -> Reading:
    mail = mail_of(path)
    tree: Json = json.loads(path.read_text())
    numbers: dict[int, int] = {}
    leaves: list[Leaf] = []
    for number, part in enumerate(tree["parts"]):
        kind, value = next(iter(part["body"].items()))
        if kind != "Multipart":
            numbers[number] = len(leaves)
            leaves.append(_leaf(part, kind, value, mail))
    shown = {numbers[number] for number in (*tree["text_body"], *tree["html_body"]) if number in numbers}
    top = tree["parts"][0]["headers"]
    return Reading(
        leaves=tuple(leaves),
        bodies=frozenset(number for number in shown if leaves[number].media in ("text/plain", "text/html")),
        subject=_last(top, "subject", {}).get("Text"),
        addresses={
            name: _addresses(_last(top, name.replace("-", "_"), {})) for name in ("from", "to", "cc", "reply-to")
        },
        date=_date(_last(top, "date", {}).get("DateTime")),
        ids={ours: _ids(_last(top, theirs, {})) for theirs, ours in _IDS.items()},
    )


def _last(headers: list[Json], name: str, default: Json) -> Json:
    """The value of a field: of several, Stalwart takes the last."""
    found = [header["value"] for header in headers if header["name"] == name]
    return found[-1] if found and isinstance(found[-1], dict) else default


def _leaf(part: Json, kind: str, value: Any, mail: bytes) -> Leaf:
    headers = part["headers"]
    content = _last(headers, "content_type", {}).get("ContentType")
    disposition = _last(headers, "content_disposition", {}).get("ContentType")
    media = f"{content['c_type']}/{content['c_subtype']}".lower() if content and content["c_subtype"] else "text/plain"
    if kind == "Message":
        data: bytes | str = mail[part["offset_body"] : part["offset_end"]]
        if _last(headers, "content_transfer_encoding", {}).get("Text", "").lower() == "base64":
            data = a2b_base64(data)
    else:
        data = value if isinstance(value, str) else bytes(value)
    return Leaf(
        media=media,
        name=_attribute(disposition, "filename") or _attribute(content, "name"),
        content=data,
        charset=_attribute(content, "charset"),
    )


def _attribute(value: Json | None, name: str) -> str | None:
    for attribute in (value or {}).get("attributes") or ():
        if attribute["name"] == name:
            return str(attribute["value"])
    return None


def _addresses(value: Json) -> list[str]:
    found = value.get("Address", {})
    members = found.get("List", [])
    for group in found.get("Group", []):
        members = [*members, *group["addresses"]]
    return [member["address"] for member in members if member["address"]]


def _ids(value: Json) -> list[str]:
    return [value["Text"]] if "Text" in value else list(value.get("TextList", []))


def _date(value: Json | None) -> datetime | None:
    if value is None:
        return None
    zone = timedelta(hours=value["tz_hour"], minutes=value["tz_minute"])
    day = (value["year"], value["month"], value["day"], value["hour"], value["minute"], value["second"])
    try:
        return datetime(*day, tzinfo=timezone(-zone if value["tz_before_gmt"] else zone)).astimezone(UTC)
    except ValueError:
        return None

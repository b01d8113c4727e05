"""Mails as the documents that the functions of the migrations take: a column of the schema each. No SQL."""

from typing import Any

from ingester.core.address import normalise
from ingester.core.envelope import Envelope
from ingester.core.message import Message
from ingester.core.outbound_status import outranked_by
from ingester.core.resolve import id_hash
from ingester.core.rows import PartRow
from ingester.store.mail import Delivery, Mail, Refused


def mail_document(mail: Mail) -> dict[str, Any]:
    """What the deliveries of a mail share."""
    message = mail.message
    if message is None:
        return {}
    arrived = receipt(mail.envelope, mail.auth_report)
    arrived["raw_sha256"] = _hex(mail.raw_sha256)
    contact = _contact(mail, message)
    return {
        "receipt": arrived,
        "contact": contact,
        "message": _message(mail, message, contact.get("hash")),
        "parts": [_part(part) for part in message.parts],
    }


def _contact(mail: Mail, message: Message) -> dict[str, Any]:
    """Whom the From field names, by the address in its one spelling."""
    if message.from_address is None:
        return {}
    address = normalise(message.from_address)
    return {
        "id": mail.contact_id,
        "address": address,
        "hash": _hex(id_hash(address)),
        "name": message.from_name,
        "seen_at": mail.envelope.received_at,
    }


def receipt(envelope: Envelope, auth_report: Any = None) -> dict[str, Any]:
    """The arrival's facts, as the receipt's columns. Without a report: a mail that could not be judged."""
    return {
        "arrival_id": envelope.arrival_id,
        "door": envelope.door,
        "provider": envelope.provider,
        "provider_event_id": None if envelope.provider_event_id is None else clean(envelope.provider_event_id),
        "envelope_from": clean(envelope.mail_from),
        "client_ip": envelope.client.ip or None,
        "helo": None if envelope.client.helo is None else clean(envelope.client.helo),
        "tls": envelope.client.tls,
        "auth_report": {} if auth_report is None else auth_report,
        "received_at": envelope.received_at,
        "metadata": envelope.metadata,
        "source": envelope.source,
    }


def _message(mail: Mail, message: Message, from_hash: str | None) -> dict[str, Any]:
    """The columns that all deliveries of a mail share."""
    return {
        "tenant_id": mail.tenant_id,
        "direction": "inbound",
        "status": "received",
        "rfc_message_id": mail.rfc_message_id,
        "rfc_id_hash": _hex(id_hash(mail.rfc_message_id)),
        "in_reply_to": message.in_reply_to[0] if message.in_reply_to else None,
        "reference_ids": message.reference_ids,
        "from_address": message.from_address,
        "from_name": message.from_name,
        "to_addresses": message.to_addresses,
        "cc_addresses": message.cc_addresses,
        "reply_to_addresses": message.reply_to_addresses,
        "header_to": message.header_to,
        "envelope_from": clean(mail.envelope.mail_from),
        "subject": message.subject,
        "body_text": message.body_text,
        "body_html": message.body_html,
        "reply_text": message.reply_text,
        "shown_hash": _hex(message.shown_hash),
        "from_hash": from_hash if message.from_address else None,
        "flags": sorted({*mail.envelope.flags, *message.flags}),
        "raw_id": mail.raw_id,
        "size": len(mail.envelope.raw),
        "sent_at": message.sent_at,
        "received_at": mail.envelope.received_at,
    }


def delivery_document(n: int, mail: Mail, delivery: Delivery) -> dict[str, Any]:
    """One delivery of the nth mail: what the write decides by, and the columns that are its message's own."""
    attachment, message = delivery.attachment, mail.message
    cites = [{"hash": _hex(citation.hash), "method": citation.method} for citation in attachment.cites]
    return {
        "mail": n,
        "message_id": delivery.message_id,
        "mailbox_id": delivery.mailbox_id,
        "thread_id": delivery.thread_id,
        "receipt_id": delivery.receipt_id,
        "envelope_to": [clean(text) for text in delivery.envelope_to],
        "id_hash": _hex(id_hash(mail.rfc_message_id)),
        "answers": attachment.reply_to,
        "joins": attachment.thread_id,
        "method": attachment.method,
        "adopts": delivery.sender.dmarc != "fail",
        "answered_status": delivery.answered_status,
        "sender_verified": delivery.sender.verified,
        "own": {
            "id": delivery.message_id,
            "mailbox_id": delivery.mailbox_id,
            "kind": delivery.verdict.kind,
            "details": {
                "kind_evidence": delivery.verdict.evidence,
                "calendar": message.calendar if message else None,
                "report": message.report if message else None,
            },
            "thread_id": attachment.thread_id or delivery.thread_id,
            "reply_match_status": "unmatched" if attachment.reply_to is None else "matched",
            "delivery_role": delivery.role,
            "adopts": delivery.sender.dmarc != "fail",
            "sender_verified": delivery.sender.verified,
            "sender_expected": delivery.attachment.expected,
            "spf": delivery.auth.spf,
            "dkim": delivery.auth.dkim,
            "dmarc": delivery.auth.dmarc,
            "arc": delivery.auth.arc,
            "auth_strength": delivery.auth.strength,
            "quarantined": delivery.quarantined,
            "recipient_tag": None if delivery.tag is None else clean(delivery.tag),
            "reply_match_method": attachment.method,
            "reply_to_email_id": attachment.reply_to,
            "cited_hashes": [one["hash"] for one in cites],
            "cites": cites,
            "answered_status": delivery.answered_status,
            "answered_over": outranked_by(delivery.answered_status),
            "decision": delivery.decision,
        },
    }


def _part(part: PartRow) -> dict[str, Any]:
    """A part's columns. Bytes that are no view on the raw mail go as hex, which is twice their size."""
    return {
        "ordinal": part.ordinal,
        "parent_ordinal": part.parent_ordinal,
        "path": part.path,
        "role": part.role,
        "content_type": part.content_type,
        "charset": part.charset,
        "filename": part.filename,
        "original_filename": part.original_filename,
        "content_id": part.content_id,
        "encoding": part.encoding,
        "offset": part.offset if part.data is None else None,
        "length": part.length if part.data is None else None,
        "decoded_size": part.decoded_size,
        "sha256": _hex(part.sha256),
        "flags": part.flags,
        "data": None if part.data is None else _hex(part.data),
    }


def refusal_document(mail: Mail, refused: Refused) -> dict[str, Any]:
    envelope = mail.envelope
    return {
        "id": refused.id,
        "door": envelope.door,
        "reason": refused.reason,
        "client_prefix": envelope.client.prefix,
        "minute": envelope.received_at.replace(second=0, microsecond=0),
        "arrival_id": envelope.arrival_id,
        "envelope": receipt(envelope, mail.auth_report) | {"envelope_to": [clean(text) for text in refused.recipients]},
        "detail": refused.detail,
        "source": envelope.source,
    }


def clean(text: str) -> str:
    """Text that Postgres takes: no NUL, no lone surrogate (envelope text may hold both)."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _hex(data: bytes) -> str:
    return f"\\x{data.hex()}"

"""The decision of a stored message in words: why it is where it is. Pure; unknown codes are printed as they stand."""

from typing import Any

from ingester.store.reading import StoredMessage

REASONS = {
    "attached": "a message that it cites is in this mailbox",
    "cites_nothing": "it cites no message",
    "nothing_cited_is_here": "it cites messages, but none of them was in this mailbox",
    "token_invalid": "its reply token is not true: forged, expired, or of another tenant or domain",
    "cross_mailbox": "its reply token is true, but of another mailbox",
    "registered": "it was registered as one of ours",
    "candidate_unverified": "a message that it cites is here, but who sent it was not verified or expected",
}
_METHODS = {
    "token_recipient": "a reply token in the recipient address",
    "token_header": "a reply token in a header",
    "token_reference": "a reply token among the cited ids",
    "in_reply_to": "its In-Reply-To",
    "references": "its References",
    "report": "the report's subject, a message of ours",
    "late_join": "the arrival of a message that it had cited before",
}
_TREATED = {"store": "stored", "quarantine": "flagged", "refuse": "refused", "defer": "deferred"}
_PLACES = {
    "in_reply_to": "In-Reply-To",
    "references": "References",
    "report": "The report",
    "token_recipient": "The reply token in the recipient",
    "token_header": "The reply token in the header",
    "token_reference": "The reply token among the cited ids",
}
_WHY_NOT = {
    "token_invalid": "it is forged, expired, or of another tenant or domain",
    "cross_mailbox": "it is of another mailbox",
}
_KINDS = {
    "token": "its reply token",
    "exact": "the exact route",
    "alias": "an alias",
    "catch_all": "the catch-all of the domain",
}


def trail(message: StoredMessage) -> list[str]:
    """The trail of a stored message, one sentence an entry, in the order in which the decision was made."""
    decision = message.decision
    reason = str(decision.get("reason", "no reason was kept"))
    return [*_steps(decision, f"the mailbox {message.mailbox}"), _verdict(message, reason)]


def decision_lines(decision: dict[str, Any]) -> list[str]:
    """The same of a decision that is not stored."""
    reason = str(decision.get("reason", "no reason was kept"))
    matched = "It would be matched" if reason == "attached" else "It would be unmatched"
    return [*_steps(decision, "its mailbox"), f"{matched}: {REASONS.get(reason, reason)}."]


def _steps(decision: dict[str, Any], mailbox: str) -> list[str]:
    lines = [_route(decision.get("route"), mailbox)]
    lines += [_step(step) for step in decision.get("looked_for") or ()]
    lines += _sender(decision.get("sender"))
    return [line for line in lines if line]


def _route(route: Any, mailbox: str) -> str:
    if not isinstance(route, dict):
        return ""
    recipients = ", ".join(str(one) for one in route.get("recipients") or ())
    kind = str(route.get("kind"))
    tag = f", with the tag {route['tag']}" if route.get("tag") else ""
    return f"{recipients} reached {mailbox} by {_KINDS.get(kind, kind)}{tag}."


def _step(step: Any) -> str:
    if not isinstance(step, dict):
        return ""
    by = str(step.get("by"))
    where, found = _PLACES.get(by, by), step.get("found")
    named = f"message {step.get('id')}" if by.startswith("token_") else f"<{step.get('id')}>"
    if step.get("why"):
        return f"{where} does not count: {_WHY_NOT.get(str(step['why']), step['why'])}."
    if found in (None, "nothing"):
        return f"{where} names {named}: not in this mailbox."
    taken = "taken" if step.get("taken") == "yes" else "not taken"
    if by.startswith("token_"):
        return f"{where} names {named}, {taken}."
    return f"{where} names {named}: that is message {found}, {taken}."


def _sender(sender: Any) -> list[str]:
    if not isinstance(sender, dict):
        return []
    verified = "verified" if sender.get("verified") else "not verified"
    expected = "expected" if sender.get("expected") else "not expected"
    lines = [f"The sender was {verified} and {expected}; DMARC: {sender.get('dmarc', 'unknown')}."]
    if sender.get("why"):
        lines.append(_treated(str(sender.get("policy")), str(sender.get("enforced")), str(sender["why"])))
    return lines


def _treated(policy: str, enforced: str, why: str) -> str:
    """What the mailbox's policy made of it; of a policy that only looks, what it would have made."""
    done = _TREATED.get(enforced, enforced)
    if policy in ("off", "monitor") and enforced != "store":
        return f"{why} The policy {policy} stores it; enforce would have {done} it."
    return why


def _verdict(message: StoredMessage, reason: str) -> str:
    why = REASONS.get(reason, reason)
    if message.reply_match_status != "matched":
        return f"Unmatched: {why}."
    method = str(message.reply_match_method)
    answered = f"Matched by {_METHODS.get(method, method)}: it answers message {message.reply_to_email_id}."
    if reason == "attached" or method == "late_join":
        return answered
    return f"{answered} That message was committed while this one was being decided."

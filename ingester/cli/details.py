"""A message's details in plain lines: why it is of its kind, what its invitation or its report says."""

from typing import Any

RECIPIENTS = 10
"""Recipients of a report, or attendees, that are listed."""


def detail_lines(details: dict[str, Any]) -> list[str]:
    """Lines for the screen; none for a message without details (an outbound one)."""
    lines: list[str] = []
    if evidence := details.get("kind_evidence"):
        lines.append("kind by " + ", ".join(evidence))
    if calendar := details.get("calendar"):
        lines += _calendar(calendar)
    if report := details.get("report"):
        lines += _report(report)
    return lines


def _calendar(calendar: dict[str, Any]) -> list[str]:
    moments = " to ".join(
        text + (f" {calendar[f'{name}_zone']}" if calendar.get(f"{name}_zone") else "")
        for name in ("start", "end")
        if (text := calendar.get(name))
    )
    lines = [_line("calendar", calendar, "method", "status", "summary", "uid", "organizer")]
    lines += [f"  {moments}"] if moments else []
    people = calendar.get("attendees", [])
    lines += [f"  {one['address'] or one['name'] or '?'}: {one['answer'].lower()}" for one in people[:RECIPIENTS]]
    return lines + _more(people)


def _report(report: dict[str, Any]) -> list[str]:
    names = ("reporting_mta", "arrival_date", "feedback_type", "user_agent", "source_ip", "original_mail_from")
    lines = [_line(report["type"], report, *names, "disposition", "mode", "original_message_id")]
    people = report.get("recipients", [])
    for one in people[:RECIPIENTS]:
        words = (one["action"], one["status"], one["remote_mta"], one["diagnostic_code"])
        named = one["final_recipient"] or one["original_recipient"] or "?"
        lines.append(f"  {named}: " + ", ".join(word for word in words if word))
    return lines + _more(people)


def _line(title: str, values: dict[str, Any], *names: str) -> str:
    return f"{title}: " + ", ".join(f"{name.replace('_', ' ')} {values[name]}" for name in names if values.get(name))


def _more(people: list[Any]) -> list[str]:
    return [f"  and {len(people) - RECIPIENTS} more"] if len(people) > RECIPIENTS else []

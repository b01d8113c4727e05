"""`--since` and `--until`: from what an operator writes (an age or a date) to the moment it means; or a usage error."""

import re
from datetime import UTC, datetime, timedelta

import click

_AGE = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: datetime) -> datetime | None:
    """The moment of an age (`30m`, `1h`, `7d`, `2w` before `now`) or of an ISO 8601 date or time, or None.

    A date begins at midnight. Without an offset it is UTC, as everything that is printed.
    """
    try:
        age = _AGE.fullmatch(text)
        if age is not None:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        said = datetime.fromisoformat(text)
        return said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _moment(text: str) -> datetime:
    found = moment(text, datetime.now(UTC))
    if found is None:
        raise click.BadParameter(f"{text!r} is neither an age like 1h or 7d nor a date like 2026-11-20")
    return found


since_option = click.option(
    "--since", type=_moment, metavar="WHEN", help="Not older than this: an age (1h, 7d) or a date (2026-11-20), in UTC."
)

until_option = click.option(
    "--until", type=_moment, metavar="WHEN", help="Older than this: an age (1h, 7d) or a date (2026-11-20), in UTC."
)

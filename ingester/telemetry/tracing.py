"""Whether there are spans at all: the extra `traces` is imported only where a collector is set."""

from typing import TYPE_CHECKING, Final

from ingester.settings import Traces

if TYPE_CHECKING:
    from ingester.telemetry.spans import Spans

MISSING: Final = "OpenTelemetry is not installed: pip install 'ingester[traces]'"


class MissingExtra(Exception):
    """The extra `traces` is not installed."""


def require_extra() -> None:
    """Raise MissingExtra where spans could not be made."""
    try:
        import ingester.telemetry.spans  # noqa: F401
    except ImportError as error:
        raise MissingExtra(MISSING) from error


def open_spans(settings: Traces) -> "Spans | None":
    """This process's spans, where they are wanted; after the fork, for a thread sends them. Raises MissingExtra."""
    if not settings.endpoint:
        return None
    require_extra()
    from ingester.telemetry.spans import Spans

    return Spans(settings)

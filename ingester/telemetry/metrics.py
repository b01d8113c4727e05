"""Every metric of the daemon, in one list. No label that a stranger could make grow."""

from prometheus_client import CollectorRegistry, Histogram


class Metrics:
    """The metrics of one process, registered in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.stage_seconds = Histogram(
            "ingester_stage_seconds", "Seconds of one stage", ("stage",), registry=self.registry
        )

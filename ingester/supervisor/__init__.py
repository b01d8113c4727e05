"""Worker processes and their supervisor: `serve` runs here, whatever the number of workers."""

from ingester.supervisor.doors import DOORS, Handed, Sockets, bind_all, bind_places, hand_over
from ingester.supervisor.reload import Unusable
from ingester.supervisor.supervising import Supervisor, hold_reloads
from ingester.supervisor.worker import run

__all__ = [
    "DOORS",
    "Handed",
    "Sockets",
    "Supervisor",
    "Unusable",
    "bind_all",
    "bind_places",
    "hand_over",
    "hold_reloads",
    "run",
]

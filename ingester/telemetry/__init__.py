"""What the daemon tells its operator: logs, metrics, and spans where they are wanted. It decides nothing about a mail.

Every room above may use it; one `Telemetry` a process is made by the composition root and handed down.
"""

from ingester.telemetry.logs import configure, finish, keep_loggers, mail_lines, speak_of_crashes
from ingester.telemetry.stages import Stage
from ingester.telemetry.watch import Telemetry

__all__ = ["Stage", "Telemetry", "configure", "finish", "keep_loggers", "mail_lines", "speak_of_crashes"]

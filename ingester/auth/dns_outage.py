"""Whether the name servers are there at all. While they are not, no mail waits for them again and again.

One silence proves nothing: a sender's own servers may be dead, and a resolver that looks for them is silent too. So
after a silence the servers are asked for a name which every one of them can answer by itself.
"""

import asyncio
from collections.abc import Callable

from ingester.auth.dns_exchange import ask
from ingester.auth.dns_message import Kind, Question
from ingester.auth.dns_servers import Nameservers

AWAY_SECONDS = 5.0
"""How long nothing is asked after nobody answered the probe."""
_PROBE = Question("invalid", Kind.A)
"""A name that never exists, as all resolvers know (RFC 6761, 6.4)."""


class Outage:
    """Knows for one resolver. Times are in seconds."""

    def __init__(self, servers: Nameservers, try_seconds: float, clock: Callable[[], float]) -> None:
        self._servers = servers
        self._try_seconds = try_seconds
        self._clock = clock
        self._until = clock()
        self._probe: asyncio.Task[None] | None = None

    @property
    def lasts(self) -> bool:
        """Whether there is no use in asking now."""
        return self._clock() < self._until

    def suspect(self) -> None:
        """Nobody answered a question: find out whether anybody is there, once however many suspect it."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().create_task(self._look())

    async def known(self) -> bool:
        """Whether it lasts, once a probe that is on its way has ended."""
        if self._probe is not None:
            await asyncio.wait((self._probe,))
        return self.lasts

    async def close(self) -> None:
        """End a probe that is on its way."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    async def _look(self) -> None:
        messages = await asyncio.gather(*(ask(one, _PROBE, self._try_seconds) for one in self._servers.current()))
        if all(message is None for message in messages):
            self._until = self._clock() + AWAY_SECONDS

"""The doors: is something of ours listening, is it ready, and if nobody listens, could we?"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from ingester import preflight
from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import Patient
from ingester.settings import Listen, Settings, UnixListen
from ingester.transport.proxy import Networks

SECONDS: Final = 5.0
"""For one door to take a connection and to say something."""
MAX_LINE: Final = 2048
_MAIL: Final = {"smtp": b"ESMTP ingester", "lmtp": b"LMTP ingester"}
"""What our greetings hold."""
_READY: Final = b"GET /readyz HTTP/1.1\r\nHost: doctor\r\nConnection: close\r\n\r\n"
_OF_NOBODY: Final = b"PROXY UNKNOWN\r\n"
"""The header with which a proxy speaks for itself (proxy-protocol.txt, 2.1)."""
_LOCAL: Final = {"::": ("::1", "127.0.0.1"), "0.0.0.0": ("127.0.0.1",)}  # noqa: S104  (who listens everywhere)

_pen = Pen("listeners")
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def look(patient: Patient) -> Sequence[Finding]:
    """Every address, side by side."""
    meant = [pair for pair in preflight.doors(patient.settings) if preflight.setting(pair[0]) not in patient.aside]
    doors = [(name, where) for name, where in meant if _known(where)]
    if not doors and not patient.aside:
        return [_pen.warning("no door has an address of its own", "Set INGESTER_SMTP__LISTEN, such as [::]:25.")]
    proxies = Networks(patient.settings.smtp.proxy_networks)
    return await asyncio.gather(*(_door(patient.settings, name, where, proxies) for name, where in doors))


def _known(where: Listen | UnixListen) -> bool:
    """Port 0 is another one with each start."""
    return isinstance(where, UnixListen) or where.port != 0


async def _door(settings: Settings, name: str, where: Listen | UnixListen, proxies: Networks) -> Finding:
    told = f"{name} on {where}"
    heard = await _hear(name, where, proxies)
    if heard is None:
        return await _unheard(settings, told, where)
    if name in _MAIL and _MAIL[name] in heard:
        return _pen.ok(f"{told} greets")
    if name not in _MAIL and heard.startswith(b"HTTP/1.1 200"):
        return _pen.ok(f"{told} is ready")
    if name not in _MAIL and heard.startswith(b"HTTP/1.1 503"):
        return _pen.fault(f"{told} is not ready", f"See the other findings, and what http://{where}/readyz says.")
    said = "says nothing" if not heard else "is another program"
    return _pen.warning(
        f"{told}: something listens and {said}", "Stop the other program (`ss -ltnp` names it), or take another port."
    )


async def _unheard(settings: Settings, told: str, where: Listen | UnixListen) -> Finding:
    problem = await asyncio.to_thread(preflight.place, settings, where)
    if problem:
        return _pen.fault(f"{told}: {problem}", "Until then the daemon will not start.")
    return _pen.warning(f"{told}: nobody listens, though somebody could", "Start the daemon: `ingester serve`.")


async def _hear(name: str, where: Listen | UnixListen, proxies: Networks) -> bytes | None:
    """The first line that is said to a client; None where nobody takes the connection, empty for silence."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await _connect(where)
    except (OSError, TimeoutError):
        return None
    try:
        async with asyncio.timeout(SECONDS / 2):
            if name not in _MAIL:
                writer.write(_READY)
            elif name == "smtp" and isinstance(where, Listen) and proxies.trust(writer.get_extra_info("sockname")[0]):
                writer.write(_OF_NOBODY)
            return await reader.readline()
    except (OSError, TimeoutError, ValueError):
        return b""
    finally:
        with contextlib.suppress(OSError):
            writer.write(b"QUIT\r\n" if name in _MAIL else b"")
        writer.close()


async def _connect(where: Listen | UnixListen) -> _Streams:
    """Raises OSError. A host without IPv6 listens on 0.0.0.0 instead of [::]."""
    if isinstance(where, UnixListen):
        return await asyncio.open_unix_connection(where.path, limit=MAX_LINE)
    *others, last = _LOCAL.get(where.host, (where.host,))
    for host in others:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(host, where.port, limit=MAX_LINE)
    return await asyncio.open_connection(last, where.port, limit=MAX_LINE)

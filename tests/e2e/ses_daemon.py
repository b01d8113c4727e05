"""A daemon whose SNS certificate is one of the test's: `python -m tests.e2e.ses_daemon URL FILE`.

The real daemon fetches certificates from Amazon alone, over https from public addresses, and no setting changes that.
So here the composition root is given another `get`; all else is the daemon's own, and settings come from the
environment. It prints its port, and serves until it is killed or told to stop.
"""

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from ingester.app import App
from ingester.settings import Listen, load
from ingester.telemetry import configure
from ingester.transport.sockets import bind
from ingester.web.fetch import FetchFailed


async def main(known: str, certificate: bytes) -> None:
    async def get(url: str, *, max_bytes: int, seconds: float) -> bytes:
        del seconds
        if url != known or len(certificate) > max_bytes:
            raise FetchFailed("the answer is 404")
        return certificate

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = load()
    configure(settings)
    app = App(settings, get=get)
    (socket,) = bind((Listen(host="127.0.0.1", port=0),), reuse_port=False)
    await app.start((), (socket,))
    print(socket.getsockname()[1], flush=True)
    await stop.wait()
    await app.drain()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))

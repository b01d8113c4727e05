"""`ingester health`: ask the daemon of this host how it is. What an image has instead of curl."""

from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

import click

from ingester.cli.context import Fail, settings_of

if TYPE_CHECKING:
    from ingester.settings import Listen

SECONDS = 3.0
"""How long the daemon may take to answer."""


@click.command()
@click.option("--ready", is_flag=True, help="Whether it takes mail now, not only whether it lives.")
@click.pass_context
def health(context: click.Context, *, ready: bool) -> None:
    """Ask the daemon of this host, at INGESTER_METRICS__LISTEN: exit status 0 is alive (or ready)."""
    listen = settings_of(context).metrics.listen
    if not listen:
        raise Fail("INGESTER_METRICS__LISTEN is not set: nobody can be asked.")
    path = "/readyz" if ready else "/healthz"
    try:
        status, words = _ask(listen[0], path)
    except (OSError, HTTPException) as error:
        raise Fail(f"No answer from the daemon ({type(error).__name__}).") from error
    if status != 200:
        raise Fail(f"{path}: {status} {words}")
    click.echo(words)


def _ask(where: "Listen", path: str) -> tuple[int, str]:
    host = {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(where.host, where.host)  # noqa: S104
    try:
        return _get(host, where.port, path)
    except OSError:
        if host != "::1":
            raise
        return _get("127.0.0.1", where.port, path)  # a host without IPv6 listens on 0.0.0.0 instead of [::]


def _get(host: str, port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(1000).decode("ascii", "replace").strip()
    finally:
        connection.close()

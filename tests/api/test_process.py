"""The HTTP door of the real process: workers behind one port, a key from the command, a drain."""

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.daemon import Daemon, command, serving, town
from tests.ports import free_port

pytestmark = pytest.mark.thorough

SECRET = "an application secret of 32 characters"


async def _call(port: int, path: str, body: object, key: str) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"http://127.0.0.1:{port}{path}", data=msgspec.json.encode(body)) as response,
    ):
        return response.status, msgspec.json.decode(await response.read())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_registers_its_mail(database_url: str, workers: str) -> None:
    there = town(database_url)
    made = msgspec.json.decode(command(database_url, "key", "add", "--tenant", "acme", "--name", "app", "--json"))
    (box,) = there.ask("SELECT id FROM mailboxes WHERE domain = 'acme.test' AND local_part = 'support'")
    port = free_port()
    settings = {
        "INGESTER_HTTP__LISTEN": f"127.0.0.1:{port}",
        "INGESTER_REPLY_TOKEN_SECRETS": SECRET,
        "INGESTER_WORKERS": workers,
    }
    with serving(database_url, settings=settings) as daemon:
        daemon.wait_event("serving", times=int(workers))
        assert f"127.0.0.1:{port}" in _announced(daemon)
        path = f"/v1/mailboxes/{box['id']}/outbound"
        for count in range(1, 5):
            status, body = asyncio.run(_call(port, path, {"to": ["ada@customer.test"]}, made["key"]))
            assert (status, there.count("messages")) == (201, count)
        status, _ = asyncio.run(_call(port, f"/v1/messages/{body['message_id']}/sent", {}, made["key"]))
        assert status == 200
        command(database_url, "key", "revoke", made["id"])
        status, _ = asyncio.run(_call(port, path, {"to": ["ada@customer.test"]}, made["key"]))
        assert status == 401
        assert daemon.terminate() == 0
    with pytest.raises(aiohttp.ClientConnectorError):
        asyncio.run(_call(port, path, {}, made["key"]))


def test_without_a_setting_no_http(database_url: str) -> None:
    town(database_url)
    with serving(database_url) as daemon:
        assert "http" not in daemon.wait_event("serving")
        assert daemon.terminate() == 0


def test_a_port_that_is_taken_is_said(database_url: str) -> None:
    town(database_url)
    port = free_port()
    with serving(database_url, settings={"INGESTER_HTTP__LISTEN": f"127.0.0.1:{port}"}):
        second = {"INGESTER_HTTP__LISTEN": f"127.0.0.1:{port}"}
        with serving(database_url, settings=second, wait=False) as other:
            assert other.wait_end() == 1
            other.wait_text("INGESTER_HTTP__LISTEN")


def _announced(daemon: Daemon) -> list[str]:
    found = daemon.wait_event("serving")["http"]
    assert isinstance(found, list)
    return found

"""OpenStack Swift with its S3 door as one process: `python -m tests.swift_server DIRECTORY S3 ACCOUNT CONTAINER OBJECT`
(ports). It is the real proxy and the real three storage servers, each with one replica on one disk.

A program, not a module to import: eventlet changes the standard library under its feet.
"""

import eventlet

eventlet.monkey_patch()

import sys  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from pathlib import Path  # noqa: E402

from eventlet import wsgi  # noqa: E402
from swift.common import utils  # noqa: E402
from swift.common.http_protocol import SwiftHttpProtocol  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.storage_policy import reload_storage_policies  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

SERVERS = ("account", "container", "object")
USER, SECRET = "test:ingester", "a-secret-of-the-tests"

_SWIFT = """
[swift-hash]
swift_hash_path_suffix = tests
[storage-policy:0]
name = Policy-0
default = yes
"""
_STORAGE = """
[DEFAULT]
swift_dir = {directory}
devices = {directory}/devices
mount_check = false
disable_fallocate = true
log_level = ERROR
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_PROXY = """
[DEFAULT]
swift_dir = {directory}
log_level = ERROR
[pipeline:main]
pipeline = catch_errors s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
recheck_account_existence = 0
recheck_container_existence = 0
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_{user} = {secret} .admin
[filter:slo]
use = egg:swift#slo
"""


def main(directory: Path, ports: Mapping[str, int]) -> None:
    """Serve until killed."""
    _configure(directory, ports)
    utils.set_swift_dir(str(directory))
    reload_storage_policies()
    for name, port in ports.items():
        listener = eventlet.listen(("127.0.0.1", port))
        app = loadapp(str(directory / f"{name}.conf"), global_conf={"log_name": name})
        eventlet.spawn(
            wsgi.server,
            listener,
            app,
            protocol=SwiftHttpProtocol,
            log=utils.NullLogger(),
            capitalize_response_headers=False,  # the S3 clients look for ETag
        )
    print("ready", flush=True)
    while True:
        eventlet.sleep(3600)


def _configure(directory: Path, ports: Mapping[str, int]) -> None:
    """The files that Swift wants: its own name, a ring and a configuration for each server."""
    (directory / "swift.conf").write_text(_SWIFT)
    user, secret = USER.replace(":", "_"), SECRET
    (directory / "proxy.conf").write_text(_PROXY.format(directory=directory, user=user, secret=secret))
    (directory / "devices" / "disk").mkdir(parents=True, exist_ok=True)
    for name in SERVERS:
        (directory / f"{name}.conf").write_text(_STORAGE.format(directory=directory, name=name))
        builder = RingBuilder(2, 1, 0)
        place = {"ip": "127.0.0.1", "port": ports[name], "device": "disk"}
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, **place})
        builder.rebalance(seed=1)
        builder.get_ring().save(str(directory / f"{name}.ring.gz"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), dict(zip(("proxy", *SERVERS), map(int, sys.argv[2:]), strict=True)))

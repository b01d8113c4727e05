#!/bin/sh
# Makes the environment from the lock and runs `ingester dev` with the arguments given: a local Postgres, a demo tenant,
# an SMTP door on 127.0.0.1:2525. Needs uv or Python 3.11 with venv; works from any directory, as root or not.
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
. "$ROOT/deploy/environment.sh"
make_environment embedded
unset UV_PROJECT_ENVIRONMENT
exec "$ENVIRONMENT/bin/ingester" dev "$@"

#!/bin/sh
# Makes the environment from the lock and runs the everyday tests; `--thorough` adds what CI runs too, `--all` the long tier as
# well. Other arguments go to pytest.
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
. "$ROOT/deploy/environment.sh"
make_environment dev embedded s3 traces
tier="not long and not thorough"
case ${1:-} in
--thorough) tier="not long" && shift ;;
--all) tier="" && shift ;;
esac
cd "$ROOT"
export HYPOTHESIS_STORAGE_DIRECTORY="$ENVIRONMENT/.hypothesis"
# Bytecode is kept even where the machine forbids it, else each worker compiles all tests anew; it lies in the environment.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX="$ENVIRONMENT/bytecode"
# More workers than cores: many tests wait. In the order of the collection: see tests/conftest.py.
exec "$ENVIRONMENT/bin/python" -m pytest -m "$tier" -n 4 --dist loadfile --no-loadscope-reorder \
    -o cache_dir="$ENVIRONMENT/.pytest_cache" "$@"

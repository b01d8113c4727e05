# Sourced by deploy/dev.sh and tests/run.sh (POSIX sh): makes the virtual environment out of uv.lock. The caller has set
# ROOT, the project's directory. It needs uv, or a Python of at least 3.11 with venv, and no rights beyond the user's.
#
#   make_environment EXTRA...    sets ENVIRONMENT. A second call with nothing changed does nothing.
#
# The environment is .venv in the project, or the directory that UV_PROJECT_ENVIRONMENT names, or one in the user's cache
# where the project belongs to somebody else.

fail() {
    echo "$1" >&2
    exit 1
}

runs() {
    [ -x "$1" ] && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    fail "Neither uv nor a Python of at least 3.11 with venv was found: install one (on Debian: apt-get install python3-venv)."
}

choose_environment() {
    ENVIRONMENT=${UV_PROJECT_ENVIRONMENT:-$ROOT/.venv}
    case $ENVIRONMENT in
    /*) ;;
    *) ENVIRONMENT=$ROOT/$ENVIRONMENT ;;
    esac
    if [ -n "${UV_PROJECT_ENVIRONMENT:-}" ] || is_current "$@"; then return; fi
    if [ -e "$ENVIRONMENT" ]; then mine=$ENVIRONMENT; else mine=$ROOT; fi
    if [ ! -w "$mine" ]; then
        ENVIRONMENT=${XDG_CACHE_HOME:-$HOME/.cache}/ingester/venv-$(echo "$ROOT" | cksum | cut -d ' ' -f 1)
        is_current "$@" || echo "$mine is not yours to write: the environment goes to $ENVIRONMENT" >&2
    fi
}

# What the environment is made of. The project's place is part of it: the package is installed as a link to it.
state() {
    echo "$ROOT"
    (cd "$ROOT" && cksum uv.lock pyproject.toml)
}

is_current() {
    runs "$ENVIRONMENT/bin/python" && [ -r "$ENVIRONMENT/ingester-state" ] || return 1
    [ "$(grep -v '^extra ' "$ENVIRONMENT/ingester-state")" = "$(state)" ] || return 1
    for extra in "$@"; do
        grep -qx "extra $extra" "$ENVIRONMENT/ingester-state" || return 1
    done
}

# An environment that is there is never made anew for want of uv in it: others may be at work in it.
find_uv() {
    if command -v uv >/dev/null 2>&1; then
        UV=uv
        return
    fi
    UV=$ENVIRONMENT/bin/uv
    if runs "$ENVIRONMENT/bin/python"; then
        if "$UV" --version >/dev/null 2>&1; then return; fi
        "$ENVIRONMENT/bin/python" -m ensurepip >/dev/null
    else
        python=$(find_python)
        "$python" -m venv --clear "$ENVIRONMENT"
    fi
    "$ENVIRONMENT/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'
}

make_environment() {
    choose_environment "$@"
    if is_current "$@"; then return; fi
    echo "Making the environment in $ENVIRONMENT (once; it takes a minute on a cold cache) ..." >&2
    find_uv
    earlier=$(sed -n 's/^extra //p' "$ENVIRONMENT/ingester-state" 2>/dev/null || true)
    extras=$(printf '%s\n' $earlier "$@" | sort -u)
    rm -f "$ENVIRONMENT/ingester-state"
    if [ ! -w "${HOME:-/nonexistent}" ] && [ -z "${UV_CACHE_DIR:-}" ]; then export UV_NO_CACHE=1; fi
    # --inexact: what somebody has installed beside it stays, uv itself among it.
    (
        unset VIRTUAL_ENV
        export UV_PROJECT_ENVIRONMENT="$ENVIRONMENT"
        cd "$ROOT" && "$UV" sync --locked --inexact $(printf -- '--extra %s ' $extras) >&2
    )
    {
        state
        printf 'extra %s\n' $extras
    } >"$ENVIRONMENT/ingester-state"
}

# shellcheck shell=bash
# Becomes the `strata` command from a checkout: with the checkout's .venv, else with the Python on PATH if the package is
# installed there, else in an environment that it makes first. To be sourced; the folder one is in stays as it is.
#
#   strata_exec ARGUMENT...

strata_exec() {
  local root python
  root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
  for python in "$root/.venv/bin/python" python3 python; do
    if "$python" -I -c 'import strata_zmq, typer, zmq' 2>/dev/null; then
      exec "$python" -m strata_zmq "$@"
    fi
  done
  # shellcheck source=scripts/lib/environment.sh
  source "$root/scripts/lib/environment.sh"
  strata_environment || return
  exec "$VIRTUAL_ENV/bin/python" -m strata_zmq "$@"
}

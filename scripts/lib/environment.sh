# shellcheck shell=bash
# Makes the project's own environment in .venv, and asks the system for what only the system has. To be sourced; knows
# nothing of what runs in the environment.
#
#   strata_environment [EXTRAS]     .venv with the project installed as EXTRAS say ("dev", "examples", "dev,torch"),
#                                   versions from constraints.txt; first on PATH afterwards. A second call is instant.
#   strata_debian PACKAGE...        tries to install Debian packages, where root and apt-get are there. Never fails;
#                                   prints what is not there and why. Their commands are on PATH afterwards.

STRATA_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
STRATA_VENV="$STRATA_ROOT/.venv"

strata_say() { printf '%s\n' "$*" >&2; }

# Prints the first Python that is new enough; fails with a message if there is none.
strata_find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  strata_say "No Python of version 3.11 or later with the venv module is on PATH." \
    "Install one (on Debian: apt-get install python3 python3-venv), then run this again."
  return 1
}

# What asks for another installation: other requirements or other pins.
strata_fingerprint() {
  cat "$STRATA_ROOT/pyproject.toml" "$STRATA_ROOT/constraints.txt" | sha256sum | cut -d ' ' -f 1
}

strata_environment() {
  local extras="${1:-}" python stamp lock wanted
  # Settings of another environment must not leak into this one.
  unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
  stamp="$STRATA_VENV/.strata-${extras:-plain}"
  wanted="$(strata_fingerprint)"
  # Two scripts started together take turns; a lock on a file that is there anyway leaves nothing behind.
  exec {lock}<"$STRATA_ROOT/pyproject.toml"
  if command -v flock >/dev/null; then flock "$lock"; fi
  # An environment that was moved has commands that start the Python of its old place.
  if ! { grep -q " $STRATA_VENV\$" "$STRATA_VENV/pyvenv.cfg" && "$STRATA_VENV/bin/python" -c 'import pip'; } 2>/dev/null; then
    python="$(strata_find_python)" || return
    strata_say "Making $STRATA_VENV with $("$python" --version) ..."
    "$python" -m venv --clear "$STRATA_VENV" || return
  fi
  if [[ ! -f "$stamp" || "$(<"$stamp")" != "$wanted" ]]; then
    strata_say "Installing strata-zmq${extras:+[$extras]} into $STRATA_VENV; the first time takes a minute ..."
    # The build tools come from the constraints, too: hence no isolated build environment.
    strata_pip pip setuptools || return
    strata_pip --no-build-isolation -e "$STRATA_ROOT${extras:+[$extras]}" || return
    printf '%s\n' "$wanted" >"$stamp"
  fi
  exec {lock}<&-
  export VIRTUAL_ENV="$STRATA_VENV" PATH="$STRATA_VENV/bin:$PATH"
}

strata_pip() {
  "$STRATA_VENV/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --root-user-action=ignore \
    --constraint "$STRATA_ROOT/constraints.txt" "$@"
}

strata_debian() {
  local package why
  # A root of `su` lacks the folders of nft and its like.
  export PATH="$PATH:/usr/sbin:/sbin"
  for package in "$@"; do
    if command -v dpkg-query >/dev/null && dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
      continue
    fi
    why=""
    if ! command -v apt-get >/dev/null; then
      why="this is not a Debian system"
    elif [[ $EUID -ne 0 ]]; then
      why="only root may: apt-get install $package"
    elif ! strata_apt_install "$package"; then
      why="apt-get could not"
    fi
    if [[ -n "$why" ]]; then strata_say "Going on without the Debian package $package: $why."; fi
  done
}

strata_apt_install() {
  local install=(apt-get install --yes --quiet=2 --no-install-recommends "$1")
  DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null 2>&1 </dev/null ||
    { apt-get update --quiet=2 >/dev/null 2>&1 </dev/null &&
      DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null 2>&1 </dev/null; }
}

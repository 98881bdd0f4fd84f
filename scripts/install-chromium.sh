#!/usr/bin/env bash
# Make sure that a Chromium for the browser tests is there: does nothing if one is,
# else installs Debian's package. ONEFOLD_CHROMIUM may name another one.
set -euo pipefail

if command -v "${ONEFOLD_CHROMIUM:-chromium}" >/dev/null; then
    exit 0
fi
if [ -n "${ONEFOLD_CHROMIUM:-}" ]; then
    echo "install-chromium: ONEFOLD_CHROMIUM=$ONEFOLD_CHROMIUM is not a program" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "install-chromium: no apt-get here; install Chromium and set ONEFOLD_CHROMIUM" >&2
    exit 1
fi

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core

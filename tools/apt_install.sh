#!/usr/bin/env bash
# Installs those of the named Debian packages that are missing; elsewhere than on Debian, says what is needed.
set -euo pipefail

if ! command -v dpkg-query > /dev/null; then
    echo "no Debian package manager here: make sure you have what these packages hold: $*"
    exit 0
fi
missing=()
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q ' installed$' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing ${missing[*]}"
root=()
[ "$(id -u)" -eq 0 ] || root=(sudo)
"${root[@]}" apt-get -qq update
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}"

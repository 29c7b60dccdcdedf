#!/usr/bin/env bash
# Installs the named Debian packages that are missing; on other systems, prints what is needed.
# Without root it asks first, on a terminal; where there is none it prints the command to run, and fails.
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
root=()
if [ "$(id -u)" -ne 0 ]; then
    command="sudo apt-get install --no-install-recommends ${missing[*]}"
    answer=no
    if [ -t 0 ] && { : > /dev/tty; } 2> /dev/null && command -v sudo > /dev/null; then # output may go to a log
        printf '\nThese Debian packages are missing: %s\nInstall them with sudo? [y/N] ' "${missing[*]}" > /dev/tty
        read -r answer < /dev/tty || answer=no
    fi
    if [[ ! $answer =~ ^[yY] ]]; then
        printf 'Debian packages are missing. Install them, then run this again:\n  %s\n' "$command"
        exit 1
    fi
    root=(sudo)
fi
echo "installing ${missing[*]}"
apt="$(dirname "$0")/apt.sh"
"${root[@]}" "$apt" -qq update
"${root[@]}" env DEBIAN_FRONTEND=noninteractive "$apt" -qq install --no-install-recommends "${missing[@]}"

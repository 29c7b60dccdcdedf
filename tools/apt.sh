#!/usr/bin/env bash
# Runs apt-get with these arguments, and waits up to 5 minutes while another program holds one of its locks.
# apt's own DPkg::Lock::Timeout applies to dpkg's lock only; with those of package lists and archives it fails at once.
set -uo pipefail

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
waited=0
while true; do
    LC_ALL=C.UTF-8 apt-get -o DPkg::Lock::Timeout=300 "$@" 2> "$errors" && status=0 || status=$?
    if [ "$status" -eq 0 ] || [ "$waited" -ge 300 ] || ! grep -q '^E: Could not get lock' "$errors"; then
        break
    fi
    [ "$waited" -gt 0 ] || echo "waiting for another program that uses apt"
    sleep 2
    waited=$((waited + 2))
done
cat "$errors" >&2
exit "$status"

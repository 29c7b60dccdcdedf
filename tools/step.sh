#!/usr/bin/env bash
# Runs one build step quietly: step.sh NAME COMMAND... prints NAME, keeps the output in .build/logs/NAME.log
# and shows the end of that log if the command fails.
set -uo pipefail

name=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
log="$root/.build/logs/${name// /-}.log"
mkdir -p "${log%/*}"
if command -v flock > /dev/null; then # two builds must not use a folder at the same time
    exec 9> "${log%.log}.lock"
    flock 9
fi
printf '%-26s' "$name"
start=$SECONDS
if "$@" > "$log" 2>&1 9>&-; then
    printf 'ok  %4d s\n' $((SECONDS - start))
else
    status=$?
    printf 'failed (%s)\n' "$log"
    tail -n 30 "$log" | sed 's/^/    /'
    exit "$status"
fi

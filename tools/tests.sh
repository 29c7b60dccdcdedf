#!/usr/bin/env bash
# Runs all tests, as `make test` does: tests.sh [OPTION...] takes pytest's options for the tests of the package. Beside these,
# which often wait for boards and pages, those of frameworks and of the fleet run in their own environments, one after the
# other.
set -uo pipefail
cd "$(dirname "$0")/.."
log=.build/logs/tests-beside.log
mkdir -p "${log%/*}"
set -m # a process group of its own, which ends with this script
(
    .build/frameworks/bin/pytest tests/frameworks
    one=$?
    OPENBLAS_NUM_THREADS=1 .build/fleet/bin/pytest tests/flower && exit "$one"
) > "$log" 2>&1 &
beside=$!
set +m
trap 'kill -- "-$beside" 2> /dev/null' EXIT
trap 'exit 130' INT
# With more BLAS threads, workers would compete.
OPENBLAS_NUM_THREADS=1 .venv/bin/pytest "$@"
status=$?
wait "$beside" || status=$?
cat "$log"
exit "$status"

#!/usr/bin/env bash
# Static analysis of all C; files unchanged since the last run are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .build/cppcheck
mapfile -t files < <(git ls-files '*.c')
exec cppcheck --quiet --std=c99 --platform=unix64 -j2 --cppcheck-build-dir=.build/cppcheck \
    --enable=warning,style,performance,portability --error-exitcode=1 \
    --suppressions-list=tools/cppcheck.txt --template='{file}:{line}: {id}: {message}' \
    -Imicropython_module/core -Imicropython_module/crypto -Imicropython_module/natmod \
    -UMICROPY_ENABLE_DYNRUNTIME -UEDGELORA_STACKS -UEDGELORA_ASSERTS "${files[@]}"

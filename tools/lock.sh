#!/usr/bin/env bash
# Prints a lock file of the packages in virtual environments, except this project. lock.sh VENV...
set -euo pipefail
echo "# What \`make setup\` and the tests use, exactly: \`make lock\` writes it from what is installed in the environments."
for venv in "$@"; do
    "$venv/bin/pip" --disable-pip-version-check freeze --exclude-editable
done | sed '/^#/d; s/+cpu$//; s/_/-/g' | tr '[:upper:]' '[:lower:]' | sort -u

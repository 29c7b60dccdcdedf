#!/bin/sh
# Replaces make in tests that would otherwise build something.
echo "tests build nothing: run this target first, or \`make test\`"
exit 1

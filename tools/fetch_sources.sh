#!/usr/bin/env bash
# Puts the sources that firmware is built from into $1: MicroPython and, where the cross compiler's
# packages are installed, the Pico SDK, TinyUSB and mbedTLS inside its lib/.
# Usage: fetch_sources.sh DEST [rp2]
# MICROPYTHON_DIR names a checkout of your own (with submodules) to be used instead of Debian's source package.
set -euo pipefail

dest=$(realpath -m "$1")
want=${2:-unix}
apt=$(realpath "$(dirname "$0")/apt.sh")
mkdir -p "$dest"

if [ -n "${MICROPYTHON_DIR:-}" ]; then
    ln -sfn "$(realpath "$MICROPYTHON_DIR")" "$dest/micropython"
    exit 0
fi

# `apt-get source` needs deb-src entries; they are derived from the machine's own entries and kept
# apart from the system's configuration.
apt_source() {
    local parts="$dest/apt/parts" lists="$dest/apt/lists"
    if [ ! -d "$parts" ]; then
        mkdir -p "$parts" "$lists/partial"
        local f
        for f in /etc/apt/sources.list.d/*.sources; do
            [ -e "$f" ] || continue
            grep -qE '^URIs: *(http|https|mirror)' "$f" || continue
            sed -E 's/^Types:.*/Types: deb-src/' "$f" > "$parts/$(basename "$f")"
        done
        if [ -s /etc/apt/sources.list ]; then
            sed -nE 's/^deb /deb-src /p' /etc/apt/sources.list > "$parts/system.list"
        fi
    fi
    local options=(-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$parts" -o "Dir::State::Lists=$lists")
    [ -e "$dest/apt/updated" ] || { "$apt" "${options[@]}" -qq update && touch "$dest/apt/updated"; }
    (cd "$dest/apt" && "$apt" "${options[@]}" -qq source --download-only "$1")
}

# Unpacks the upstream archive of a Debian source package to a folder, which appears only when complete.
unpack() { # package, folder
    [ -e "$2/.complete" ] && return
    echo "fetching $1"
    apt_source "$1"
    rm -rf "$2" "$2.part"
    mkdir -p "$2.part"
    tar -xf "$dest"/apt/"$1"_*.orig.tar.* -C "$2.part" --strip-components=1
    touch "$2.part/.complete"
    mv "$2.part" "$2"
}

unpack micropython "$dest/micropython"
lib="$dest/micropython/lib"
mkdir -p "$lib/micropython-lib"
touch "$lib/micropython-lib/README.md"

if [ "$want" = rp2 ] && [ ! -e "$dest/micropython/.rp2" ]; then
    rm -rf "$lib/pico-sdk" "$lib/tinyusb" "$lib/mbedtls"
    cp -r /usr/src/pico-sdk "$lib/pico-sdk"
    touch "$lib/pico-sdk/README.md"
    ln -s /usr/src/tinyusb "$lib/tinyusb"
    unpack mbedtls "$lib/mbedtls"
    touch "$dest/micropython/.rp2"
fi

#!/usr/bin/env bash
# Puts Debian's Python for aarch64, which qemu-aarch64 runs here, into the folder $1: DEST/python
set -euo pipefail

dest=$(realpath -m "$1")
apt=$(realpath "$(dirname "$0")/apt.sh")
packages=(python3.13-minimal libpython3.13-minimal libpython3.13-stdlib libc6 libgcc-s1 libstdc++6 libssl3t64 zlib1g
    libbz2-1.0 libexpat1 libffi8 liblzma5 libuuid1 libzstd1)
# apt's lists and state of its own: nothing changes for the system's.
options=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$dest/apt" -o "Dir::Cache=$dest/apt"
    -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)

rm -rf "$dest"
mkdir -p "$dest/debian/usr/lib" "$dest/apt/lists/partial" "$dest/apt/archives/partial"
ln -s usr/lib "$dest/debian/lib"
"$apt" "${options[@]}" -qq update
(cd "$dest/apt" && "$apt" "${options[@]}" -qq download "${packages[@]}")
for package in "$dest"/apt/*.deb; do
    dpkg-deb -x "$package" "$dest/debian"
done
cat > "$dest/python" << EOF
#!/bin/sh
exec qemu-aarch64 -L "$dest/debian" "$dest/debian/usr/bin/python3.13" "\$@"
EOF
chmod +x "$dest/python"
"$dest/python" -c 'import platform, ssl; assert platform.machine() == "aarch64"'
rm -rf "$dest/apt"

#!/bin/sh
# sysroot.sh FOLDER: what the build for arm64 links, from Debian's packages for arm64 and OpenVINO's wheel, unpacked
# into FOLDER. Nothing is installed: apt works on lists and a cache of its own below FOLDER.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
packages="libjpeg62-turbo-dev liblcms2-2 liblcms2-dev libpng-dev nettle-dev nlohmann-json3-dev zlib1g-dev"
openvino=$(grep '^openvino==' "$here/../../constraints.txt")
made="$openvino $packages"
test "$(cat "$folder/.made" 2>/dev/null)" = "$made" && exit

rm -rf "$folder"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/apt/packages"
folder=$(cd "$folder" && pwd)
arm64() {
  apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
    -o Dir::State="$folder/apt" -o Dir::State::status=/dev/null -o Dir::Cache="$folder/apt/cache" "$@"
}
arm64 update
cd "$folder/apt/packages"
# shellcheck disable=SC2086
arm64 download $packages
for package in *.deb; do dpkg-deb -x "$package" "$folder"; done
# Its tag names the glibc that it was built on.
for glibc in 2_28 2_31 2_35; do tags="${tags:-} --platform manylinux_${glibc}_aarch64"; done
# shellcheck disable=SC2086
"${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary :all: $tags --dest . "$openvino"
"${PYTHON:-python3}" -m zipfile -e openvino-*.whl "$folder/wheel"
rm -rf "$folder/apt"
echo "$made" > "$folder/.made"

#!/usr/bin/env bash
# setup.sh FOLDER [PYTHON]   make FOLDER/python, an emulated aarch64 Python with numpy, ncnn and OpenCV.
#
# What PYTHON (default python3) has installed gives the versions. Debian or Ubuntu, and no root: apt works in a state
# of its own under FOLDER. Where this machine's sources do not carry arm64 (Ubuntu keeps it on another mirror),
# APT_SOURCES names a file of sources that do.
set -euo pipefail

die() {
  echo "setup.sh: $*" >&2
  exit 1
}

[ $# -ge 1 ] || die "usage: setup.sh FOLDER [PYTHON]"
for tool in apt-get dpkg dpkg-deb; do
  command -v "$tool" >/dev/null || die "$tool is missing: Debian or Ubuntu is needed."
done
python=$(command -v "${2:-python3}") || die "there is no ${2:-python3}."
folder=$(realpath -m -- "$1") && log=$folder/setup.log
{ mkdir -p "$folder" && : >"$log"; } 2>/dev/null || die "$1 is not a writable folder."
rm -f "$folder/python"
"$python" -m pip --version >>"$log" 2>&1 || die "$python has no pip."

# fetch ARCH ROOT PACKAGE...: the packages and all that they depend on, unpacked under ROOT and not installed.
fetch() {
  local arch=$1 root=$2 state=$folder/apt options deb
  shift 2
  rm -rf "$state" "$root"
  mkdir -p "$state/lists/partial" "$state/archives/partial" "$root"
  : >"$state/status"
  options=(-o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root
    -o Acquire::Retries=3 -o Dir::Log="$state" -o Dir::Cache="$state" -o Dir::State="$state"
    -o Dir::State::status="$state/status")
  [ -z "${APT_SOURCES:-}" ] ||
    options+=(-o Dir::Etc::sourcelist="$(realpath -- "$APT_SOURCES")" -o Dir::Etc::sourceparts=-)
  # One broken source of many is no matter: the packages decide.
  apt-get "${options[@]}" update >>"$log" 2>&1 || true
  apt-get "${options[@]}" install -y --download-only --no-install-recommends "$@" >>"$log" 2>&1 ||
    die "apt-get could not fetch $* for $arch: see $log, and APT_SOURCES in $0."
  for deb in "$state"/archives/*.deb; do
    dpkg-deb -x "$deb" "$root" >>"$log" 2>&1 || die "dpkg-deb could not unpack ${deb##*/}: see $log."
  done
  [ -e "$root/lib" ] || ln -s usr/lib "$root/lib"
  rm -rf "$state"
}

if qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64); then
  ln -sf "$qemu" "$folder/qemu-aarch64"
else
  fetch "$(dpkg --print-architecture)" "$folder/host" qemu-user-static
  mv -f "$folder/host/usr/bin/qemu-aarch64-static" "$folder/qemu-aarch64"
  rm -rf "$folder/host" # the rest emulates other processors
fi
fetch arm64 "$folder/root" python3 libstdc++6

# In the place of the root's own python3, so that Python finds by its own path what is the root's, and so that a process
# can start sys.executable again, which is this script.
mv "$folder/root/usr/bin/python3" "$folder/root/usr/bin/python"
cat >"$folder/root/usr/bin/python3" <<'WRAPPER'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
root=${here%/usr/bin}
exec "${root%/*}/qemu-aarch64" -0 "$here/python3" -L "$root" "$here/python" -s "$@"
WRAPPER
chmod +x "$folder/root/usr/bin/python3"
ln -sf root/usr/bin/python3 "$folder/python.partial"
version=$("$folder/python.partial" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>>"$log") ||
  die "the emulated Python does not start: see $log."
"$python" -m pip freeze --exclude-editable 2>>"$log" | grep == >"$folder/constraints.txt" || true
"$python" -m pip install --quiet --target "$folder/root/usr/lib/python3/dist-packages" --only-binary :all: \
  --python-version "$version" --platform=manylinux{2014,_2_{17..34}}_aarch64 -c "$folder/constraints.txt" \
  numpy ncnn opencv-python-headless typer tqdm >>"$log" 2>&1 ||
  die "pip could not fetch the aarch64 wheels for Python $version: see $log."
"$folder/python.partial" -c 'import numpy, ncnn, cv2, typer, tqdm' >>"$log" 2>&1 ||
  die "the aarch64 wheels do not import: see $log."
mv "$folder/python.partial" "$folder/python"

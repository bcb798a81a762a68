#!/bin/sh
# sh ncnn.sh ncnn-YYYYMMDD-apple.zip
# Writes Frameworks/ncnn.xcframework and Frameworks/openmp.xcframework, which Package.swift names, from ncnn's release.
# That holds static libraries dressed as frameworks with a folder Versions, which Xcode would pack into the app, and iOS
# refuses to install; here they become plain static libraries. Needs a Mac with Xcode.
set -eu
zip=${1:?usage: sh ncnn.sh ncnn-YYYYMMDD-apple.zip}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unzip -q "$zip" -d "$work"
for name in openmp ncnn; do
    set --
    for slice in "$work/$name.xcframework"/*/; do
        framework=$slice$name.framework
        [ -d "$framework" ] || { echo "ncnn.sh: $zip has no $name.framework for $(basename "$slice")" >&2; exit 1; }
        cp "$framework/$name" "${slice}lib$name.a"
        set -- "$@" -library "${slice}lib$name.a"
        if [ "$name" = ncnn ]; then set -- "$@" -headers "$framework/Headers"; fi
    done
    rm -rf "$here/Frameworks/$name.xcframework"
    xcodebuild -create-xcframework "$@" -output "$here/Frameworks/$name.xcframework"
done

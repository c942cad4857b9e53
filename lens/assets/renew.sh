#!/bin/sh
# Fetches the foreign scripts, styles and font again, at these versions. Needs npm and tar; writes into vendor/ only.
set -eu

HTMX=4.0.1
UPLOT=1.6.32
INTER=5.3.0

vendor=$(cd "$(dirname "$0")/vendor" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# package, version, then pairs of the path inside the package and the name in vendor/
take() {
    package=$1 version=$2
    shift 2
    archive=$(npm pack --silent "$package@$version")
    mkdir unpacked
    tar -xzf "$archive" -C unpacked --strip-components=1
    while [ $# -gt 0 ]; do
        cp "unpacked/$1" "$vendor/$2"
        shift 2
    done
    rm -r unpacked
}

take htmx.org "$HTMX" dist/htmx.min.js htmx.min.js LICENSE LICENSE.htmx
take uplot "$UPLOT" dist/uPlot.iife.min.js uPlot.iife.min.js dist/uPlot.min.css uPlot.min.css LICENSE LICENSE.uPlot
take @fontsource-variable/inter "$INTER" files/inter-latin-wght-normal.woff2 inter-latin-wght-normal.woff2 LICENSE LICENSE.inter

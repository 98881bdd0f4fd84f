#!/usr/bin/env bash
# Fetch the pages' scripts from the npm registry into the tree, where they are committed.
# Each package is named by its exact version and refused unless its content is the known one.
set -euo pipefail

target="$(cd "$(dirname "$0")/.." && pwd)/server/src/onefold_server/pages/static/vendor"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# fetch NAME VERSION SHA256 FOLDER FILE...: the files of one package, without their folders
fetch() {
    local name="$1" version="$2" sha256="$3" folder="$4"
    shift 4
    local tarball
    tarball="$(cd "$work" && npm pack --silent "$name@$version")"
    echo "$sha256  $work/$tarball" | sha256sum --check --quiet
    tar -xzf "$work/$tarball" -C "$work"
    rm -rf "${target:?}/$folder"
    mkdir -p "$target/$folder"
    (cd "$work/package" && install -m 644 "$@" "$target/$folder/")
    rm -rf "$work/package"
    echo "$name@$version $sha256" | tee -a "$work/VERSIONS"
}

fetch htmx.org 4.0.1 5fba65616ca148a86d377e9771bcada7f35faee3558651feb929eea425e13b3c \
    htmx dist/htmx.min.js LICENSE
fetch uplot 1.6.32 4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d \
    uplot dist/uPlot.iife.min.js dist/uPlot.min.css LICENSE
install -m 644 "$work/VERSIONS" "$target/VERSIONS"

#!/usr/bin/env bash
# Builds the drawing library of the map's page: regl-scatterplot and what it needs, one file without a network.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y >/dev/null
npm install --no-audit --no-fund regl-scatterplot@1.16.0 esbuild@0.28.2
node node_modules/esbuild/install.js
printf "import createScatterplot from 'regl-scatterplot';\nglobalThis.createScatterplot = createScatterplot;\n" >entry.js
node_modules/.bin/esbuild entry.js --bundle --minify --format=iife --target=es2020 --legal-comments=none \
    --outfile="$here/src/kinmer/maps/page/scatterplot.js"

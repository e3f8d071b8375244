#!/bin/sh
# Lighthouse, which judges the pages in Debian's Chromium: locked versions and hashes, beside the environment.
set -eu
cd "$(dirname "$0")/../.."
to=.venv/lighthouse
cmp -s tools/lighthouse/package-lock.json $to/package-lock.json && [ -d $to/node_modules/lighthouse ] && exit 0
command -v npm >/dev/null 2>&1 || { echo "npm is not installed (Debian: apt-get install npm)" >&2; exit 1; }
mkdir -p $to
cp tools/lighthouse/package.json $to/
echo "Installing Lighthouse ..." >&2
cp tools/lighthouse/package-lock.json $to/
npm ci --silent --ignore-scripts --no-audit --no-fund --prefix $to || { rm -f $to/package-lock.json; exit 1; }

#!/bin/sh
# RAUC's client for hawkBit, against which the tests hold our DDI: unpacked beside the environment, without what it
# needs for D-Bus (the tests play the installer). Where it cannot be had, the tests that need it say so.
set -eu
cd "$(dirname "$0")/.."
[ -d .venv/rauc-hawkbit/rauc_hawkbit ] && exit 0
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
  --target .venv/rauc-hawkbit -r tools/ddi_client.lock && exit 0
echo "Left out because rauc-hawkbit could not be installed: updates by a second independent client" >&2
[ "${CI:-}" != true ]

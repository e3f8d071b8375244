#!/bin/sh
# The programs that the tests run against: a broker, a time series store that speaks InfluxDB's line protocol, a browser,
# a client that updates devices.
# Installs what is missing where it may (root, apt-get); otherwise says which tests are left out.
set -eu
missing=
for pair in mosquitto:mosquitto victoria-metrics:victoria-metrics chromium:chromium swupdate:swupdate; do
  PATH=$PATH:/usr/sbin command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  export DEBIAN_FRONTEND=noninteractive
  echo "Installing$missing ..."
  apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
  echo "apt-get could not install:$missing" >&2
fi
for name in $missing; do
  case $name in
    mosquitto) what="everything that needs a real broker" ;;
    victoria-metrics) what="writing to a real line-protocol store" ;;
    chromium) what="the story in a real browser" ;;
    swupdate) what="updates by SWUpdate, unchanged" ;;
  esac
  echo "Left out because $name is not installed: $what" >&2
done
[ "${CI:-}" != true ]

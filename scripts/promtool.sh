#!/usr/bin/env bash
# Asks Prometheus' own promtool about the chart's alerts: whether they are rules, and whether each fires when it should and
# only then (tests/alerts). Debian's package prometheus has it (install-packages.sh promtool).
set -euo pipefail
cd "$(dirname "$0")/.."
promtool=${PROMTOOL:-promtool}

if ! command -v "$promtool" >/dev/null; then
    echo "promtool is not installed: the chart's alerts are not tested"
    exit 0
fi
"$promtool" check rules charts/indexbuild/files/alerts.yaml
# An alert that no case names would be tested by nobody.
for alert in $(sed -n 's/^ *- alert: //p' charts/indexbuild/files/alerts.yaml); do
    [ "$(grep -c "alertname=\"$alert\"" tests/alerts/alerts.yaml)" -ge 2 ] || { echo "tests/alerts/alerts.yaml has no two cases of $alert" >&2; exit 1; }
done
"$promtool" test rules tests/alerts/*.yaml

#!/bin/sh
# Installs the agent as a systemd service: install.sh [WHAT], where WHAT is a wheel or a checkout (default: this one).
# Run it again to upgrade; it keeps /etc/edge-agent/agent.yaml. Where no systemd runs (a root file system being made for
# an SD card) it only puts the files in place.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
what=$(realpath "${1:-$checkout}")
venv=/opt/edge-agent
config=/etc/edge-agent/agent.yaml

[ "$(id -u)" -eq 0 ] || { echo "install.sh: run it as root" >&2; exit 1; }
[ -x "$venv/bin/python3" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --upgrade --constraint "$checkout/constraints.txt" "$what[mqtt,coap,modbus,otlp,notify,postgres,ota]"
install -D -m 0644 "$here/edge-agent.service" /etc/systemd/system/edge-agent.service
mkdir -p /etc/edge-agent
if [ ! -e "$config" ]; then
    echo "Installed. Now write the configuration, and start the service:"
    echo "  $venv/bin/edge-agent init $config     # then put your broker and devices in"
    echo "  systemctl enable --now edge-agent"
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
if systemctl is-enabled --quiet edge-agent; then
    "$venv/bin/edge-agent" check "$config"
    systemctl restart edge-agent
    systemctl --no-pager --lines=0 status edge-agent
fi

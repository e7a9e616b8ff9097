#!/usr/bin/env bash
# Boots Debian 12 in systemd-nspawn, with a network of its own, and shows the unit at work in it (nspawn-inside.sh).
# Needs no systemd outside. The container's journal stays in $LAB/nspawn/var/log/journal.
. "$(dirname "$0")/lib.sh"
. "$REPO/deploy/prove/fleet.sh"

ROOT="$LAB/nspawn"
debian_root "$ROOT" systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates,iproute2,mosquitto,mosquitto-clients,procps
rm -rf "$ROOT/root/src" "$ROOT/etc/edge-agent" "$ROOT/var/log/journal" "$ROOT/var/lib/private/edge-agent" \
    "$ROOT/etc/systemd/system/edge-agent.service.d"
mkdir -p "$ROOT/root/src" "$ROOT/var/log/journal"
git -C "$REPO" ls-files -z --cached --others --exclude-standard -- pyproject.toml constraints.txt README.md LICENSE edge_agent adapters models deploy |
    tar -C "$REPO" --null -T - -c | tar -C "$ROOT/root/src" -x
cp -L /etc/resolv.conf "$ROOT/etc/resolv.conf"
echo "127.0.0.1 localhost" >"$ROOT/etc/hosts"
chroot "$ROOT" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt /root/src/deploy/systemd/install.sh
say "installed into the root file system"

make_fleet
publish_release 1 --shadow 10s --shadow-ticks 10 --trial 15s --trial-ticks 10
rm -rf "$ROOT/root/fleet"
cp -r "$FLEET/repo" "$ROOT/root/fleet" # what is public of it, no keys

cat >"$ROOT/etc/systemd/system/proof.service" <<'END'
[Unit]
After=multi-user.target mosquitto.service
[Service]
Type=oneshot
ExecStart=/bin/bash /root/src/deploy/prove/nspawn-inside.sh
ExecStopPost=/bin/systemctl --no-block poweroff
StandardOutput=file:/root/proof.log
StandardError=inherit
[Install]
WantedBy=default.target
END
rm -f "$ROOT/root/proof.log"
chroot "$ROOT" systemctl --quiet enable proof.service mosquitto.service
timeout 400 systemd-nspawn -q -D "$ROOT" --machine=edge-agent-proof --register=no --keep-unit --private-network -b \
    >"$LAB/nspawn-console.log" 2>&1 </dev/null || true
cat "$ROOT/root/proof.log"
grep -q '^done$' "$ROOT/root/proof.log" || die "see above, and journalctl -D $ROOT/var/log/journal"

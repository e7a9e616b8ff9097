#!/usr/bin/env bash
# Runs inside the container that nspawn.sh boots: what systemd makes of the unit, and the unit of systemd.
set -uo pipefail
UNIT=edge-agent.service CONFIG=/etc/edge-agent/agent.yaml
PATH="/opt/edge-agent/bin:$PATH"

show() { systemctl show -P "$1" $UNIT; }
log() { journalctl -q -u $UNIT -o cat --no-pager; }
said() { log | grep -q "$1"; }
now() { date +%s.%N; }
since() { awk -v a="$(now)" -v b="$1" 'BEGIN { printf "%.1f s", a - b }'; }
is() { [ "$(show "$1")" = "$2" ]; }
fail() { echo "FAILED: $*"; log | tail -30; exit 1; }
until_true() { # SECONDS WHAT COMMAND...
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "not in time: $what"
        sleep 0.1
    done
}
restarted() { [ "$(show NRestarts)" -gt "$1" ] && is ActiveState active; }
update_says() { edge-agent ota status | grep -q "$1"; }
served() { python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:8480/metadata/1.root.json")' 2>/dev/null; }
status_says() { show StatusText | grep -q "$1"; }

write_config() { # UNIT OF TEMPERATURE
    cat >$CONFIG <<END
agent: {name: proof}
sources:
  bus:
    type: mqtt
    host: localhost
    port: 1884
    username: agent
    password: \${credential:mqtt-password}
    subscriptions: [{topic: "plant/{sensor}", name: "{sensor}"}]
sensors:
  temperature: {unit: "$1"}
sinks:
  bus: {type: mqtt, host: localhost, port: 1884, username: agent, password: "\${credential:mqtt-password}"}
END
}

echo "== $(systemctl --version | head -1); booted: $(systemd-analyze time 2>/dev/null | head -1)"

echo "== no configuration: the start is refused, said, and tried again"
systemctl start $UNIT 2>/dev/null && fail "started without a configuration"
log | grep -v '^edge-agent.service\|^Fail' | tail -2
is ActiveState activating || is ActiveState failed || fail "$(show ActiveState)"
systemctl stop $UNIT

echo "== credential, broker with a password, start"
mkdir -p /etc/edge-agent/credentials "/etc/systemd/system/$UNIT.d"
head -c 18 /dev/urandom | base64 >/etc/edge-agent/credentials/mqtt-password
chmod 600 /etc/edge-agent/credentials/mqtt-password
cp /root/src/deploy/systemd/credentials.conf "/etc/systemd/system/$UNIT.d/"
mosquitto_passwd -b -c /etc/mosquitto/passwd agent "$(cat /etc/edge-agent/credentials/mqtt-password)"
chown mosquitto /etc/mosquitto/passwd
printf 'listener 1884\nallow_anonymous false\npassword_file /etc/mosquitto/passwd\n' >/etc/mosquitto/conf.d/proof.conf
systemctl restart mosquitto
write_config °C
systemctl daemon-reload
begin=$(now)
systemctl start $UNIT || fail "does not start"
echo "READY after $(since "$begin"), ExecStartPre included; Type=$(show Type) WatchdogUSec=$(show WatchdogUSec)"
until_true 20 "source connected" status_says "1 of 1 source connected"
publish() { mosquitto_pub -p 1884 -u agent -P "$(cat /etc/edge-agent/credentials/mqtt-password)" -t "plant/$1" -m "$2"; }
publish temperature 21.5
publish pressure 3.2
until_true 20 "sensors in STATUS" status_says "2 sensors"
echo "STATUS: $(show StatusText)"
echo "memory: $(grep -E '^(VmRSS|RssAnon|RssFile|Threads)' /proc/"$(show MainPID)"/status | tr -s '\t\n ' ' '); MemoryCurrent=$(show MemoryCurrent)"

echo "== sandbox"
pid=$(show MainPID)
systemd-analyze security $UNIT 2>/dev/null | tail -1
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/"$pid"/status | tr '\t\n' '  '; echo
for path in / /usr /etc /opt/edge-agent /var/lib /home; do
    nsenter -t "$pid" -m touch "$path/x" 2>/dev/null && fail "$path can be written to"
done
nsenter -t "$pid" -m touch /var/lib/private/edge-agent/x && rm /var/lib/private/edge-agent/x || fail "no state can be written"
echo "read-only even for root in its mount name space: / /usr /etc /opt/edge-agent /var/lib /home"
echo "devices it sees: $(nsenter -t "$pid" -m find /dev -type b -o -type c | sort | tr '\n' ' ')"
echo "process folders it sees in /proc: $(nsenter -t "$pid" -m setpriv --reuid "$(stat -c %u /proc/"$pid")" --clear-groups ls /proc | grep -c '^[0-9]')"
echo "password in its environment or command line: $(grep -c -F "$(cat /etc/edge-agent/credentials/mqtt-password)" /proc/"$pid"/environ /proc/"$pid"/cmdline | tr '\n' ' ')"
echo "in the journal: $(log | grep -c -F "$(cat /etc/edge-agent/credentials/mqtt-password)")"
echo "ONNX Runtime's telemetry files: $(find / -xdev -name '.onnxruntime*' 2>/dev/null | wc -l)"
stat -c '%A %U %n' /var/lib/private/edge-agent /var/lib/private/edge-agent/*

echo "== reload"
write_config degC
systemctl reload $UNIT || fail "reload"
until_true 10 "reload" said "configuration reloaded"
until_true 10 "active after reload" is ActiveState active
[ "$(show MainPID)" = "$pid" ] || fail "another process after reload"
echo "same process, $(log | grep -c 'configuration reloaded') reload; STATUS: $(show StatusText)"
echo "sensorz: {}" >>$CONFIG
systemctl reload $UNIT
until_true 10 "refusal" said "the old configuration stays in use"
until_true 10 "active after a refused reload" is ActiveState active
[ "$(show MainPID)" = "$pid" ] || fail "a broken reload stopped the service"
echo "with a mistake: the process stays, state $(show ActiveState)/$(show SubState); journal: $(log | grep -m1 sensorz)"
write_config °C

echo "== watchdog: SIGSTOP"
before=$(show NRestarts) begin=$(now)
kill -STOP "$pid"
until_true 60 "restart by the watchdog" restarted "$before"
echo "killed and ready again after $(since "$begin"); Result was: $(journalctl -q -u $UNIT -o cat --no-pager | grep -i -m1 'watchdog timeout')"
echo "== SIGKILL"
before=$(show NRestarts) begin=$(now)
kill -KILL "$(show MainPID)"
until_true 30 "restart" restarted "$before"
echo "ready again after $(since "$begin")"
until_true 20 "source connected" status_says "1 of 1 source connected"
until_true 20 "sensors again" status_says "sensors"

echo "== stop"
sleep 2
begin=$(now)
systemctl stop $UNIT
echo "stopped after $(since "$begin"); Result=$(show Result) ExecMainStatus=$(show ExecMainStatus)"
is Result success && is ExecMainStatus 0 || fail "not a clean stop"
systemctl start $UNIT
until_true 20 "learned state" said "what was learned before the restart is in use again"
echo "started again with what it had learned"

echo "== update over the air"
cp /root/fleet/metadata/1.root.json /etc/edge-agent/root.json
echo 'ota: {repository: "http://127.0.0.1:8480", root: /etc/edge-agent/root.json, ring: canary, check_not_within: 1s}' >>$CONFIG
systemd-run --quiet --unit=fleet /opt/edge-agent/bin/edge-agent ota serve /root/fleet || fail "no web server"
until_true 20 "web server" served
mkdir -p /root/children
/root/src/deploy/prove/watch-children.sh /root/children &
watcher=$!
while sleep 0.5; do
    publish temperature 21.5
    publish pressure 3.2
done &
readings=$!
systemctl restart $UNIT || fail "does not start with updates"
export CREDENTIALS_DIRECTORY=/run/credentials/$UNIT # the commands read the configuration, and root may read these
edge-agent ota check || fail "the repository cannot be had"
until_true 90 "release committed" update_says "pump-1, committed"
kill "$watcher" "$readings"
cat /root/children/trust /root/children/probe || fail "no child was seen under its limits"
edge-agent ota history | cut -c1-150
edge-agent ota verify-audit || fail "audit log"
echo "messages of level warning or worse:"
log | grep -v '"level":"info"\|"level": "info"' | grep '"level"' | sort | uniq -c | cut -c1-300
echo done

#!/usr/bin/env bash
# Builds the image and shows it at work, locked down as docker-compose.yml does: health, readings, reload, stop,
# updates over the air.
# Run bases.sh first where no registry can be reached.
. "$(dirname "$0")/lib.sh"
. "$REPO/deploy/prove/fleet.sh"

PORT=21883 API=28470 UPDATES=28480 NAME=edge-agent-proof
CONF="$LAB/conf"

finish() {
    docker rm -f "$NAME" >/dev/null 2>&1 || true
    [ -z "${BROKER:-}" ] || kill "$BROKER" 2>/dev/null || true
    [ -z "${SERVER:-}" ] || kill "$SERVER" 2>/dev/null || true
    [ -z "${WATCHER:-}" ] || kill "$WATCHER" 2>/dev/null || true
    [ -z "${CHILDREN:-}" ] || kill "$CHILDREN" 2>/dev/null || true
    [ -z "${READINGS:-}" ] || pkill -P "$READINGS" 2>/dev/null || true # would wait for a broker for ever
    stop_dockerd
}

write_config() { # FALSE_ALARMS
    mkdir -p "$CONF"
    cat >"$CONF/agent.yaml" <<END
agent: {name: proof, data_dir: /var/lib/edge-agent}
api: {listen: "127.0.0.1:$API"}
sources:
  bus: {type: mqtt, host: 127.0.0.1, port: $PORT, subscriptions: [{topic: "plant/{sensor}", name: "{sensor}"}]}
sensors:
  "temperature": {unit: "$1", min: -40, max: 150}
sinks:
  bus: {type: mqtt, host: 127.0.0.1, port: $PORT, topic: "out/{kind}"}
ota: {repository: "http://127.0.0.1:$UPDATES", root: /etc/edge-agent/root.json, ring: canary, check_not_within: 1s}
END
}

publish() { # SECONDS: two sensors, ten readings a second each
    seq "$(($1 * 10))" | awk '{ print 20 + $1 % 7 / 10; fflush(); system("sleep 0.1") }' |
        mosquitto_pub -p $PORT -t plant/temperature -l &
    seq "$(($1 * 10))" | awk '{ print 3 + $1 % 5 / 10; fflush(); system("sleep 0.1") }' | mosquitto_pub -p $PORT -t plant/pressure -l
}

health() { docker inspect -f '{{.State.Health.Status}}' "$NAME"; }
is_health() { [ "$(health)" = "$1" ]; }
status() { docker exec "$NAME" edge-agent status --url "http://127.0.0.1:$API" --json; }
knows_sensors() { status | python3 -c 'import json, sys; sys.exit(json.load(sys.stdin)["sensors"]["known"] != 2)'; }
logged() { docker logs "$NAME" 2>&1 | grep -q "$1"; }

updates() { docker exec "$NAME" edge-agent ota "$@"; }
# Asked from outside: what runs inside would count as the agent's memory.
said() { { "$LAB/publisher/bin/edge-agent" ota status --url "http://127.0.0.1:$API" || true; } | grep -q "$1"; }
in_use() { status | python3 -c 'import json, sys; m = json.load(sys.stdin)["model"]; print(m["name"], m["version"])'; }

# watch_memory: the most that the container takes, without what the kernel can drop, and who took it; until it is ended.
watch_memory() {
    local pid folder usage
    pid=$(docker inspect -f '{{.State.Pid}}' "$NAME")
    folder=$(awk -F: '$2 == "memory" { print "/sys/fs/cgroup/memory" $3; v1 = 1 } $1 == 0 { v2 = $3 }
        END { if (!v1) print "/sys/fs/cgroup" v2 }' "/proc/$pid/cgroup")
    usage=$(find "$folder" -maxdepth 1 -name memory.usage_in_bytes -o -maxdepth 1 -name memory.current)
    while sleep 0.1; do
        awk 'FNR == NR { used = $1; next } $1 ~ /^(total_)?inactive_file$/ { file = $2 }
            END { printf "%.0f\n", (used - file) / 1048576 }' "$usage" "$folder/memory.stat"
    done >>"$LAB/memory.log" 2>/dev/null
}
most_memory() { sort -n "$LAB/memory.log" | tail -1; }
ended() { kill "$1" && ! wait "$1" 2>/dev/null; } # without a line of the shell about it

start_dockerd
trap finish EXIT
/usr/sbin/mosquitto -p $PORT >"$LAB/mosquitto.log" 2>&1 &
BROKER=$!
write_config °C
make_fleet
cp "$FLEET/repo/metadata/1.root.json" "$CONF/root.json"
"$LAB/publisher/bin/edge-agent" ota serve "$FLEET" --port $UPDATES >"$LAB/serve.log" 2>&1 &
SERVER=$!

before=$(date +%s.%N)
DOCKER_BUILDKIT=1 docker build --quiet --network host -t edge-agent:latest "$REPO" >/dev/null
say "built in $(awk -v a="$(date +%s.%N)" -v b="$before" 'BEGIN { printf "%.0f", a - b }') s," \
    "$(docker image inspect -f '{{.Size}}' edge-agent:latest | awk '{ printf "%.0f MB unpacked", $1 / 1e6 }')," \
    "$(docker save edge-agent:latest | gzip -6 | wc -c | awk '{ printf "%.0f MB gzip", $1 / 1e6 }')"
docker run --rm --network none --entrypoint python3 edge-agent:latest -c 'import torch' 2>/dev/null && die "torch is in the image"

docker run -d --name "$NAME" --network host --read-only --tmpfs /tmp:size=16m --memory 256m --pids-limit 64 \
    --cap-drop ALL --security-opt no-new-privileges --health-interval 2s \
    -e EDGE_AGENT_LIVEZ="127.0.0.1:$API" -v "$CONF:/etc/edge-agent:ro" edge-agent:latest >/dev/null
until_true 30 "healthy" is_health healthy
say "healthy; runs as uid:gid $(docker exec "$NAME" python3 -c 'import os; print(os.getuid(), os.getgid(), sep=":")')"

publish 12
until_true 10 "two sensors" knows_sensors
say "sensors: $(status | python3 -c 'import json, sys; s = json.load(sys.stdin); print(s["sensors"], s["sources"], s["model"]["name"])')"
say "metrics: $(docker exec "$NAME" python3 -c "import urllib.request as u; print(*[l for l in u.urlopen('http://127.0.0.1:$API/metrics').read().decode().splitlines() if l.startswith(('edge_agent_readings_total','edge_agent_ticks_total'))])")"
docker exec "$NAME" python3 -c 'open("/opt/x", "w")' 2>/dev/null && die "the root can be written to"
say "root is read-only; files in the state folder: $(docker exec "$NAME" python3 -c 'import os; print(os.listdir("/var/lib/edge-agent"))')"
docker stats --no-stream --format '{{.MemUsage}} cpu {{.CPUPerc}} pids {{.PIDs}}' "$NAME" | sed 's/^/           docker stats: /'

say "$(docker exec "$NAME" python3 -c "print(*[' '.join(l.split()) for l in open('/proc/1/status') if l.startswith(('VmRSS', 'RssAnon', 'RssFile', 'Threads'))])")"

write_config degC
docker kill -s HUP "$NAME" >/dev/null
until_true 10 "reload" logged "configuration reloaded"
say "SIGHUP: reloaded"
echo "sensors: {temperature: {unitt: x}}" >>"$CONF/agent.yaml"
docker kill -s HUP "$NAME" >/dev/null
until_true 10 "refusal" logged "the old configuration stays in use"
until_true 5 "healthy" is_health healthy
say "SIGHUP with a mistake in the file: refused, still $(health)"

docker kill -s STOP "$NAME" >/dev/null
until_true 60 "unhealthy" is_health unhealthy
say "process stopped by SIGSTOP: unhealthy"
docker kill -s CONT "$NAME" >/dev/null
until_true 30 "healthy again" is_health healthy

write_config °C
before=$(date +%s.%N)
docker stop -t 20 "$NAME" >/dev/null
code=$(docker inspect -f '{{.State.ExitCode}}' "$NAME")
say "SIGTERM: exit code $code after $(awk -v a="$(date +%s.%N)" -v b="$before" 'BEGIN { printf "%.1f", a - b }') s"
[ "$code" = 0 ] || die "exit code $code"
docker start "$NAME" >/dev/null
until_true 30 "healthy after restart" is_health healthy
until_true 5 "learned state" logged "what was learned before the restart is in use again"
say "started again, with what it had learned"

publish 60 2>/dev/null &
READINGS=$!
: >"$LAB/memory.log"
watch_memory &
WATCHER=$!
mkdir -p "$LAB/children" && rm -f "$LAB"/children/*
"$REPO/deploy/prove/watch-children.sh" "$LAB/children" "$(docker inspect -f '{{.State.Pid}}' "$NAME")" &
CHILDREN=$!
publish_release 1 --shadow 0s --trial 15s --trial-ticks 10
updates check | sed 's/^/           /'
until_true 60 "release committed" said "pump-1, committed"
say "update: committed, model in use: $(in_use); memory at most $(most_memory) MiB (agent, probe and exchange of models)"
ended "$CHILDREN" && CHILDREN=
cat "$LAB/children/trust" "$LAB/children/probe" || die "no child was seen under its limits"
: >"$LAB/memory.log"
publish_release 2 --shadow 10s --shadow-ticks 10 --trial 10m
updates check >/dev/null
until_true 60 "release on trial after its shadow" said "pump-2 .*: trial"
say "update with a shadow: on trial; memory at most $(most_memory) MiB (agent, probe, shadow)"
ended "$WATCHER" && WATCHER=
for start in 1 2 3; do
    docker kill -s KILL "$NAME" >/dev/null
    docker start "$NAME" >/dev/null
    until_true 30 "healthy after crash $start on trial" is_health healthy
done
until_true 10 "roll back" said "pump-2, rolled back"
say "killed three times on trial: back to $(in_use); $(updates status | grep -m1 crashes)"
updates verify-audit
[ "$(docker inspect -f '{{.State.OOMKilled}}' "$NAME")" = false ] || die "out of memory"
say "done"

#!/usr/bin/env bash
# Runs docker-compose.yml, profile `demo` included, with a docker daemon in a network name space of its own, so that
# bridge and iptables do not touch the machine. Run bases.sh first where no registry can be reached.
. "$(dirname "$0")/lib.sh"

NETNS=edge-agent-proof
COMPOSE=${COMPOSE:-docker-compose} # or "docker compose"
cd "$REPO"
export COMPOSE_PROJECT_NAME=edge-agent-proof

dc() { $COMPOSE --profile demo "$@"; }
finish() {
    dc logs --no-color >"$LAB/compose.log" 2>&1 || true
    dc down -v >/dev/null 2>&1 || true
    stop_dockerd
    ip netns del "$NETNS" 2>/dev/null || true
}
healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$(dc ps -q "$1")")" = healthy ]; }
in_netns() { nsenter --net="/var/run/netns/$NETNS" "$@"; }
api() { in_netns curl -sf --max-time 5 "http://127.0.0.1:8470$1"; }
prometheus() { in_netns curl -sf --max-time 5 --get "http://127.0.0.1:9090/api/v1/query" --data-urlencode "query=$1"; }
known() { api /api/v1/status | python3 -c "import json, sys; sys.exit(json.load(sys.stdin)['sensors']['known'] < $1)"; }
scraped() { prometheus 'edge_agent_readings_total{source="bus"} > 0' | grep -q '"source":"bus"'; }
agent_says() { dc logs --no-color agent 2>&1 | grep -q "$1"; }
demo_says() { dc logs --no-color demo 2>&1 | grep -qi "$1"; }

start_dockerd
DOCKER_BUILDKIT=1 docker build --quiet --network host -t edge-agent:latest . >/dev/null
DOCKER_BUILDKIT=1 docker build --quiet --network host -t edge-agent:demo --target demo . >/dev/null
say "built; demo: $(docker image inspect -f '{{.Size}}' edge-agent:demo | awk '{ printf "%.0f MB", $1 / 1e6 }')"
stop_dockerd

ip netns add "$NETNS"
trap finish EXIT
ip -n "$NETNS" link set lo up
start_dockerd nsenter --net="/var/run/netns/$NETNS"

$COMPOSE up -d --no-build 2>&1 | grep -v '^Creating\|^Pulling' || true
say "up"
until_true 60 "agent healthy" healthy agent
say "agent and broker are healthy"
dc exec -T broker mosquitto_pub -t plant/press/temperature -m 21.5
dc exec -T broker mosquitto_pub -t plant/press/pressure -m '{"value": 3.2}'
until_true 15 "two sensors" known 2
say "two readings through the bridge, by service name"
until_true 60 "scrape" scraped
say "Prometheus: $(prometheus 'up{job="edge-agent"}' | grep -o '"value":[^}]*')"
say "rules loaded: $(in_netns curl -s http://127.0.0.1:9090/api/v1/rules | grep -o '"alerts"' | wc -l)"
say "listening beyond loopback: $(in_netns ss -Hltn | awk '$4 !~ /^127\./ { n++ } END { print n + 0 }') sockets"
dc exec -T agent python3 -c 'open("/x", "w")' 2>/dev/null && die "the root can be written to"
dc kill -s HUP agent >/dev/null 2>&1
until_true 10 "reload" agent_says "configuration reloaded"
say "SIGHUP: reloaded"

dc up -d --no-build demo 2>&1 | grep -v '^Creating\|up-to-date' || true
until_true 60 "tags of the simulated plant at the agent" known 20
say "demo: the agent knows $(api /api/v1/status | python3 -c 'import json, sys; print(json.load(sys.stdin)["sensors"]["known"])') sensors"
until_true 240 "an attack that is over" demo_says 'ATTACK OVER'
say "demo: $(dc logs --no-color demo 2>&1 | grep -h -E 'ATTACK|INCIDENT' | sed 's/^[^|]*| *//' | tr '\n' ';' | cut -c1-300)"
docker stats --no-stream --format '           {{.Name}}: {{.MemUsage}} cpu {{.CPUPerc}}'
before=$SECONDS
dc stop -t 20 >/dev/null 2>&1
say "stopped in $((SECONDS - before)) s; exit codes: $(for s in agent broker prometheus demo; do
    docker inspect -f "$s {{.State.ExitCode}} " "$(dc ps -q $s)"; done | tr -d '\n')"
say "done"

# Shared by the scripts of this folder. They need root on Debian 12 and write below $LAB only.
# Programs: apt-get install docker.io docker-compose iptables debootstrap systemd-container zstd mosquitto mosquitto-clients
set -euo pipefail
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LAB=${LAB:-${TMPDIR:-/tmp}/edge-agent-prove}
export LAB REPO DOCKER_HOST="unix://$LAB/docker.sock" LC_ALL=C DEBIAN_FRONTEND=noninteractive
mkdir -p "$LAB/empty"

# Debian's client: it speaks BuildKit to Debian's daemon; a newer one in PATH would ask for the buildx plug-in.
docker() { /usr/bin/docker "$@"; }

say() { printf '%8.1fs  %s\n' "$(awk -v a="$(date +%s.%N)" -v b="$T0" 'BEGIN { print a - b }')" "$*"; }
T0=$(date +%s.%N)

die() {
    echo "FAILED: $*" >&2
    exit 1
}

# until_true SECONDS WHAT COMMAND...: waits until the command succeeds.
until_true() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || die "not in time: $what"
        sleep 0.2
    done
}

# start_dockerd [PREFIX COMMAND...]: a daemon of its own, beside whatever the machine runs.
start_dockerd() {
    local network=(--iptables=false --ip6tables=false --bridge=none)
    [ $# -eq 0 ] || network=()
    setsid "$@" dockerd "${network[@]}" --data-root "$LAB/docker/data" --exec-root "$LAB/docker/exec" \
        --pidfile "$LAB/docker.pid" -H "$DOCKER_HOST" >"$LAB/dockerd.log" 2>&1 </dev/null &
    until_true 60 "dockerd (see $LAB/dockerd.log)" docker version
}

stop_dockerd() {
    [ -f "$LAB/docker.pid" ] || return 0
    local pid
    pid=$(cat "$LAB/docker.pid")
    kill "$pid" 2>/dev/null || true
    until_true 60 "end of dockerd" gone "$pid"
}

gone() { ! kill -0 "$1" 2>/dev/null; }

# debian_root FOLDER [PACKAGE,...]: a minimal Debian 12, from the mirror that apt uses.
debian_root() {
    [ ! -e "$1/.complete" ] || return 0
    local mirror
    mirror=$(sed -n 's/^URIs: //p' /etc/apt/sources.list.d/debian.sources | head -1)
    debootstrap --variant=minbase ${2:+--include=$2} bookworm "$1" "$mirror" >"$1.log" 2>&1
    trust_like_host "$1"
    touch "$1/.complete"
}

# Behind a proxy that inspects TLS, its authority has to be known inside as well.
trust_like_host() {
    mkdir -p "$1/usr/local/share/ca-certificates" "$1/etc/ssl/certs"
    cp /usr/local/share/ca-certificates/*.crt "$1/usr/local/share/ca-certificates/" 2>/dev/null || true
    cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"
}

#!/usr/bin/env bash
# watch-children.sh FOLDER [PID]: looks at the children of any agent (of this process only) that fetch (trust) and try
# (probe) a release, while they are under their limits. What it saw last of each is a line in FOLDER/trust and
# FOLDER/probe. Runs until it is ended.
set -uo pipefail
cd "$1"

limit() { awk -v name="Max $2" 'index($0, name) == 1 { print $(NF - 2) }' "/proc/$1/limits"; }

look() { # PID NAME
    local cpu
    cpu=$(limit "$1" "cpu time") && [ -n "$cpu" ] && [ "$cpu" != unlimited ] || return 0
    printf '%s: cpu %s s, file size %s, %s files, core %s, address space %.0f MB; peak %.0f MB; oom_score_adj %s, nice %s, network %s\n' \
        "$2" "$cpu" "$(limit "$1" "file size")" "$(limit "$1" "open files")" "$(limit "$1" "core file size")" \
        "$(limit "$1" "address space" | awk '{ print $1 / 1e6 }')" "$(awk '/VmHWM/ { print $2 / 1e3 }' "/proc/$1/status")" \
        "$(cat "/proc/$1/oom_score_adj")" "$(awk '{ print $19 }' "/proc/$1/stat")" \
        "$([ "$(readlink "/proc/$1/ns/net")" = "$(readlink "/proc/$(awk '{ print $4 }' "/proc/$1/stat")/ns/net")" ] &&
            echo "the agent's" || echo none)" >"$2.new" && [ -d "/proc/$1" ] && mv "$2.new" "$2"
}

while sleep 0.01; do
    for name in trust probe; do
        pid=$(pgrep -n ${2:+-P "$2"} -f -- "-m edge_agent[.]ota[.]$name\$") && look "$pid" $name
    done
done 2>/dev/null

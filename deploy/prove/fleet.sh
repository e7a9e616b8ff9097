# Sourced after lib.sh: a publisher of updates on this machine, its keys and repository in $FLEET.
FLEET="$LAB/fleet"
export EDGE_AGENT_OTA_PASSPHRASE="only to prove it"

publisher() { "$LAB/publisher/bin/edge-agent" ota repo "$@"; }

# make_fleet: installs the publisher, and begins with a new repository and the ring `canary`.
make_fleet() {
    [ -x "$LAB/publisher/bin/python3" ] || python3 -m venv "$LAB/publisher"
    "$LAB/publisher/bin/pip" install --quiet --constraint "$REPO/constraints.txt" "$REPO[ota-publisher]"
    rm -rf "$FLEET" "$LAB"/pump-*
    publisher init "$FLEET" --ring canary >/dev/null
}

# publish_release VERSION OPTION...: the model that came with the agent, as release pump-VERSION.
publish_release() {
    local version=$1
    shift
    "$LAB/publisher/bin/python3" - "$LAB/pump-$version" "$version" <<'END_OF_PYTHON'
import sys
from dataclasses import replace
from pathlib import Path
from edge_agent.bundle import universal_bundle, write_bundle

ours = universal_bundle()
files = {name: raw for name, raw in ours.files.items() if name != "manifest.json"}
write_bundle(Path(sys.argv[1]), replace(ours.manifest, name="pump", version=sys.argv[2]), files)
END_OF_PYTHON
    publisher publish "$LAB/pump-$version" -d "$FLEET" --ring canary --activate now --spread 0s "$@" >/dev/null
}

"""``python -m edge_agent.ota.probe``: one request on stdin, one line of JSON on stdout, then the end."""

from __future__ import annotations

import sys

from edge_agent.ota.probe.confinement import leave_the_world

if __name__ == "__main__":
    # Before numpy is imported: a process with threads gets no namespace of its own.
    leave_the_world()
    from edge_agent.ota.probe.child import main

    sys.exit(main())

"""The publisher's side of updates over the air: makes and keeps the repository that gateways read.

Plain files in the end, for any web server, object store or CDN. Never imported by the daemon.
"""

from edge_agent.ota.publisher.releasing import Wanted
from edge_agent.ota.publisher.repository import Change, Repository

__all__ = ["Change", "Repository", "Wanted"]

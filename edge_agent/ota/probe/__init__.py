"""A candidate is opened here, in a child process of its own, before the agent itself lets it in.

A model is a program of somebody else's. :class:`ChildProber` is the agent's side: it starts ``python -m
edge_agent.ota.probe``, asks one question and ends whatever it started. :mod:`child` is the other side, under the limits
of :mod:`confinement`. Whatever a bundle does there, the agent only sees a sentence.
"""

from edge_agent.ota.probe.prober import Budget, ChildProber

__all__ = ["Budget", "ChildProber"]

"""Linear companions of the model, fitted by the gateway itself from its own recent history. NumPy only, pure.

They look at what the model looks at, each from one side, and need no training: see :mod:`edge_agent.companions.groups`
for the members and :mod:`edge_agent.companions.combination` for how their scores are joined with the model's.
"""

from edge_agent.companions.combination import Combination
from edge_agent.companions.companions import MEMBERS, Companions
from edge_agent.companions.options import CompanionOptions
from edge_agent.verdict import MODEL

__all__ = ["MEMBERS", "MODEL", "Combination", "CompanionOptions", "Companions"]

"""Trust in updates: metadata by TUF, files by a downloader of our own, both in a process that lives for one order.

::

    the agent                                   one-shot process (python -m edge_agent.ota.trust)
    child.ChildTrust ── one order, JSON ──────→ work.check, work.fetch
                     ←─ one answer, JSON ──────   ├── client    TUF by python-tuf, its time, its durable cache
    in_process.InProcessTrust ── a thread ─────→  ├── download  one target, resumed, never longer than said
                                                  └── transport web (http, https) or folder (file)

Only :mod:`child` and :mod:`settings` may be imported by the agent: the others load ``tuf``. What runs in the process
imports neither pydantic nor numpy, so that it costs what TUF costs (``docs/ota-security.md``).
"""

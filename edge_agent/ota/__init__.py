"""Updates over the air: what a ring runs, how it is fetched and trusted, tried and taken back.

A value's way: :mod:`ring` (what the publisher wants) → trust (TUF, in a child process) → :mod:`state` (one phase after
the other, each durable) → gate and probe (in a child process) → shadow → trial → commit or rollback → :mod:`report`.
"""

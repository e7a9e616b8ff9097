"""How well detectors find labelled anomalies: one harness for all recordings. Strictly causal; labels only judge.

``suites`` gives cases (a plant, its tests, its budget), a ``Subject`` gives score streams for a case (``agent`` through
the daemon's own path, ``baselines`` beside it), ``harness`` judges the streams, ``summary`` takes means, ``report``
shows them. docs/evaluation.md says what each measure means.
"""

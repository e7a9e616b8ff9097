"""Metrics, traces and logs to Prometheus and OTLP."""

"""What the agent counts about itself, independent of who reads it (Prometheus and OTLP: see ``edge_agent.export``).

Every family is declared once, in :class:`Metrics`; the reference page is rendered from these declarations.
An increment is an attribute addition, cheap enough for every reading; all of it happens on the event loop's thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import ClassVar, Generic, TypeVar


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)
    kind: ClassVar[str] = "counter"

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add ``amount`` (0 or more)."""
        self.value += amount


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)
    kind: ClassVar[str] = "gauge"

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Replace the value."""
        self.value = value


SECONDS_BUCKETS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Histogram:
    """Counts of observations in fixed buckets (upper bounds in seconds, see ``SECONDS_BUCKETS``)."""

    __slots__ = ("counts", "sum")
    kind: ClassVar[str] = "histogram"
    bounds = SECONDS_BUCKETS

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS_BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(SECONDS_BUCKETS, value)] += 1
        self.sum += value


M = TypeVar("M", Counter, Gauge, Histogram)


class Family(Generic[M]):
    """All series of one metric. ``labels`` gives the child for these label values; keep it, look-ups cost more."""

    def __init__(self, child: type[M], name: str, description: str, label_names: tuple[str, ...] = ()) -> None:
        self._child: type[M] = child
        self.kind = child.kind
        self.name = name
        self.description = description
        self.label_names = label_names
        self._children: dict[tuple[str, ...], M] = {}

    def labels(self, *values: str) -> M:
        """The series with these label values, made at first use."""
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name}: got labels {values!r}, expected {self.label_names!r}")
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._child()
        return child

    def remove(self, *values: str) -> None:
        """Forget one series (a sensor or sink that is gone)."""
        self._children.pop(values, None)

    def series(self) -> Iterator[tuple[tuple[str, ...], M]]:
        """Label values and child of every series."""
        yield from list(self._children.items())


class Metrics:
    """All metrics of one daemon."""

    def __init__(self) -> None:
        # Sources
        self.readings = Family(Counter, "edge_agent_readings_total", "Readings taken in.", ("source",))
        self.rejected = Family(
            Counter,
            "edge_agent_frames_rejected_total",
            "Frames from outside that could not be understood.",
            ("source", "reason"),
        )
        self.source_up = Family(
            Gauge, "edge_agent_source_up", "1 while the source is connected to what it reads, else 0.", ("source",)
        )
        self.source_restarts = Family(
            Counter, "edge_agent_source_restarts_total", "Restarts of a source after a failure.", ("source",)
        )
        self.source_dropped = Family(
            Counter,
            "edge_agent_source_dropped_total",
            "Frames dropped because the sample channel was full.",
            ("source",),
        )
        # Intake
        self.quality = Family(
            Counter, "edge_agent_readings_flagged_total", "Readings with a data-quality flag.", ("flag",)
        )
        self.claimed = Family(
            Counter,
            "edge_agent_readings_claimed_total",
            "Readings refused because another source already owns the sensor.",
            ("source",),
        )
        self.over_limit = Family(
            Counter,
            "edge_agent_readings_over_limit_total",
            "Readings refused because `intake.max_sensors` sensors are known already.",
            ("source",),
        )
        self.late = Family(
            Counter,
            "edge_agent_readings_late_total",
            "Readings that came after their tick; used where nothing newer is known.",
        )
        self.duplicate = Family(
            Counter, "edge_agent_readings_duplicate_total", "Readings with the source time of one already taken in."
        )
        self.clock_jumps = Family(Counter, "edge_agent_clock_jumps_total", "Jumps of the gateway's wall clock.")
        # Ticks
        self.ticks = Family(Counter, "edge_agent_ticks_total", "Ticks scored.")
        self.ticks_missed = Family(
            Counter, "edge_agent_ticks_missed_total", "Ticks skipped because the one before took too long."
        )
        self.tick_seconds = Family(
            Histogram, "edge_agent_tick_seconds", "Time from readings aligned to decision.", ("stage",)
        )
        self.sensors = Family(Gauge, "edge_agent_sensors", "Sensors in the graph.")
        self.sensors_missing = Family(Gauge, "edge_agent_sensors_missing", "Sensors without a usable value.")
        self.topology_changes = Family(
            Counter,
            "edge_agent_topology_changes_total",
            "Times that sensors appeared or left, or edges were relearned.",
        )
        # Detection
        self.plant_score = Family(Gauge, "edge_agent_plant_score", "Smoothed log score of the whole plant.")
        self.p_value = Family(Gauge, "edge_agent_p_value", "Calibrated p-value of the last tick; NaN while warming up.")
        self.warming_up = Family(Gauge, "edge_agent_warming_up", "1 until the decision is calibrated, else 0.")
        self.degraded = Family(
            Gauge, "edge_agent_detector_degraded", "1 while the statistical fallback runs instead of the model."
        )
        self.incidents_open = Family(Gauge, "edge_agent_incidents_open", "Incidents open now.", ("kind",))
        self.incidents = Family(Counter, "edge_agent_incidents_total", "Incidents opened.", ("kind", "severity"))
        self.detector_failures = Family(
            Counter,
            "edge_agent_detector_failures_total",
            "Ticks on which the detector failed or gave non-finite scores.",
        )
        self.member_weight = Family(
            Gauge,
            "edge_agent_member_weight",
            "Vote of each member of the ensemble; 0 for one that says nothing or misbehaves.",
            ("member",),
        )
        # Budget of false alarms
        self.budget_allowed = Family(
            Gauge, "edge_agent_false_alarm_budget_allowed_per_day", "False alarms that the user allows, a day."
        )
        self.budget_achieved = Family(
            Gauge,
            "edge_agent_false_alarm_budget_achieved_per_day",
            "Process alarms so far that nobody has called true, a day: the rate, and its 95 % interval (low, high).",
            ("bound",),
        )
        self.budget_alarms = Family(
            Gauge, "edge_agent_false_alarm_budget_alarms", "Process alarms so far that nobody has called true."
        )
        self.budget_margin = Family(
            Gauge,
            "edge_agent_false_alarm_budget_margin",
            "Alarms that the budget has not earned back; each makes the next one need e times less likely scores.",
        )
        self.budget_stretch = Family(
            Gauge,
            "edge_agent_false_alarm_budget_stretch",
            "How many times more surprising normal operation is than when calibrated, 1 to 3; divides surprise.",
        )
        # Rules
        self.rules = Family(
            Gauge,
            "edge_agent_rules",
            "Rules of the user's by state: watched (all), holding, pending (true, not yet for long enough), unknown "
            "(sensors are missing).",
            ("state",),
        )
        self.rule_holds = Family(Counter, "edge_agent_rule_holds_total", "Times that a rule began to hold.", ("rule",))
        # Drift
        self.drift_signals = Family(
            Counter, "edge_agent_drift_signals_total", "Status events about slow changes, by what they say.", ("what",)
        )
        self.drift_sensors = Family(
            Gauge,
            "edge_agent_drift_sensors",
            "Sensors away from what they used to be, by statistic (level, spread, residual).",
            ("statistic",),
        )
        self.drift_evidence = Family(
            Gauge,
            "edge_agent_drift_model_evidence",
            "Evidence that the model no longer fits the plant: 1 for none, 10,000 is convincing.",
        )
        self.drift_model_stale = Family(
            Gauge, "edge_agent_drift_model_stale", "1 while the model is thought not to fit the plant, else 0."
        )
        # Model
        self.model_info = Family(
            Gauge, "edge_agent_model_info", "1 for the model in use.", ("name", "version", "sha256")
        )
        self.model_swaps = Family(Counter, "edge_agent_model_swaps_total", "Model swaps by outcome.", ("outcome",))
        # Sinks
        self.events_routed = Family(
            Counter, "edge_agent_events_routed_total", "Events that a sink is to be told.", ("sink",)
        )
        self.events_held_back = Family(
            Counter,
            "edge_agent_events_held_back_total",
            "Events a sink is not told as they happen, by the option that says so.",
            ("sink", "reason"),
        )
        self.escalations = Family(
            Counter,
            "edge_agent_escalations_total",
            "Incidents that nobody acknowledged in time, told to another sink.",
            ("sink", "to"),
        )
        self.digests = Family(Counter, "edge_agent_digests_total", "Digests made.", ("sink",))
        self.events_delivered = Family(
            Counter, "edge_agent_events_delivered_total", "Events acknowledged by the sink.", ("sink",)
        )
        self.events_retried = Family(
            Counter, "edge_agent_events_retried_total", "Deliveries that failed and are tried again.", ("sink",)
        )
        self.events_dropped = Family(
            Counter,
            "edge_agent_events_dropped_total",
            "Events given up, by reason (full, memory, expired, damaged, refused, unwritable).",
            ("sink", "reason"),
        )
        self.template_failures = Family(
            Counter,
            "edge_agent_template_failures_total",
            "Texts that a template of the user failed to make; the built-in text was sent instead.",
            ("sink", "option"),
        )
        self.sink_up = Family(Gauge, "edge_agent_sink_up", "1 while the sink takes events, else 0.", ("sink",))
        self.events_replayed = Family(
            Counter, "edge_agent_events_replayed_total", "Events acknowledged late, out of the outbox.", ("sink",)
        )
        self.sink_backlog = Family(Gauge, "edge_agent_sink_backlog", "Events waiting for the sink.", ("sink",))
        self.sink_backlog_bytes = Family(
            Gauge,
            "edge_agent_sink_backlog_bytes",
            "Size of late events waiting for the sink, on the disk or because the disk does not take them.",
            ("sink",),
        )
        self.sink_backlog_age = Family(
            Gauge, "edge_agent_sink_backlog_age_seconds", "How long the oldest event waits for the sink.", ("sink",)
        )
        self.sink_parts_lost = Family(
            Counter,
            "edge_agent_sink_parts_lost_total",
            "Parts of events that a sink could not deliver: messages cut short (`truncated`), points or rows that the "
            "far side refused (`refused`).",
            ("sink", "reason"),
        )
        # Uplinks
        self.uplink_up = Family(
            Gauge, "edge_agent_uplink_up", "1 while the uplink is connected to its far side, else 0.", ("uplink",)
        )
        self.uplink_restarts = Family(
            Counter, "edge_agent_uplink_restarts_total", "Restarts of an uplink after a failure.", ("uplink",)
        )
        self.uplink_hints = Family(
            Counter,
            "edge_agent_uplink_hints_total",
            "Hints that there is news, before they are coalesced.",
            ("uplink",),
        )
        self.uplink_rejected = Family(
            Counter,
            "edge_agent_uplink_rejected_total",
            "Messages to an uplink that could not be understood.",
            ("uplink", "reason"),
        )
        # Updates over the air
        self.ota_phase = Family(
            Gauge, "edge_agent_ota_phase", "1 for the phase that updates over the air are in, else 0.", ("phase",)
        )
        self.ota_counter = Family(
            Gauge, "edge_agent_ota_release_number", "Counter of the newest ring file of this gateway's ring, 0 before."
        )
        self.ota_last_success = Family(
            Gauge,
            "edge_agent_ota_last_success_timestamp_seconds",
            "When a release was committed last, seconds since 1970; 0 before.",
        )
        self.ota_checks = Family(
            Counter, "edge_agent_ota_checks_total", "Looks for news, by what came of them.", ("outcome",)
        )
        self.ota_rollbacks = Family(
            Counter, "edge_agent_ota_rollbacks_total", "Releases that were taken back, by reason.", ("reason",)
        )
        self.ota_refusals = Family(
            Counter, "edge_agent_ota_refusals_total", "Releases and metadata that were refused, by reason.", ("reason",)
        )
        self.ota_downloaded_bytes = Family(
            Counter, "edge_agent_ota_downloaded_bytes_total", "Bytes of models and configurations that were fetched."
        )
        self.ota_expires = Family(
            Gauge,
            "edge_agent_ota_metadata_expires_timestamp_seconds",
            "When the first of the metadata seen last expires, seconds since 1970; 0 before.",
        )
        self.ota_time_unconfirmed = Family(
            Gauge,
            "edge_agent_ota_time_unconfirmed",
            "1 while the clock is behind what is known to have passed, else 0.",
        )
        self.ota_shadow_ticks = Family(
            Counter,
            "edge_agent_ota_shadow_ticks_total",
            "Ticks of candidates in shadow, by what became of them (scored, failed, skipped).",
            ("outcome",),
        )
        self.ota_shadow_distance = Family(
            Gauge,
            "edge_agent_ota_shadow_distance",
            "Kolmogorov-Smirnov distance of the last candidate's scores from those of the model in use, 0 to 1.",
        )
        self.ota_shadow_alarms = Family(
            Gauge, "edge_agent_ota_shadow_alarms", "Alarms during the last shadow.", ("model",)
        )
        self.ota_shadow_p99 = Family(
            Gauge,
            "edge_agent_ota_shadow_p99_seconds",
            "Processor time of a tick of the detector during the last shadow, 99th percentile.",
            ("model",),
        )
        # Store
        self.store_bytes = Family(
            Counter, "edge_agent_store_written_bytes_total", "Bytes written to the agent's own files.", ("store",)
        )
        self.store_failures = Family(
            Counter, "edge_agent_store_failures_total", "Writes to the agent's own files that failed.", ("store",)
        )
        # Local API and export
        self.api_requests = Family(
            Counter, "edge_agent_api_requests_total", "Requests to the local API, by answer.", ("method", "status")
        )
        self.stream_dropped = Family(
            Counter, "edge_agent_api_stream_dropped_total", "Live events that a slow client of the API missed."
        )
        self.otlp_dropped = Family(
            Counter,
            "edge_agent_otlp_dropped_total",
            "Spans, log records and metric exports that the OTLP collector did not get.",
            ("signal",),
        )
        # Process
        self.config_reloads = Family(Counter, "edge_agent_config_reloads_total", "Reloads by outcome.", ("outcome",))
        self.started = Family(Gauge, "edge_agent_start_time_seconds", "Wall time of the start, seconds since 1970.")

    def families(self) -> Iterator[Family[Counter] | Family[Gauge] | Family[Histogram]]:
        """Every family, in the order of declaration."""
        for value in vars(self).values():
            if isinstance(value, Family):
                yield value

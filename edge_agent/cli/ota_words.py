"""Where updates stand, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge_agent.counted import counted

Found = Mapping[str, Any]

_PHASES = {
    "idle": "nothing is being worked on",
    "checking": "looking for news",
    "downloading": "it is being fetched",
    "verified": "it was fetched and its signatures hold; it is checked without being run",
    "probed": "it was checked; it is tried in a process of its own",
    "staged": "it is here and was tried; it waits for its moment",
    "shadow": "it scores beside the model in use; what it says does not count yet",
    "trial": "it answers, and goes back by itself when the agent does worse than before",
    "committed": "it stays",
    "rolled_back": "what was before is being brought back",
    "quarantined": "it is put aside and not tried again",
}


def sentences(found: Found) -> Iterator[str]:
    """One line each; ``found`` is what ``GET /api/v1/ota`` gives."""
    release = found["release"]
    if release is None:
        yield f"Updates of ring {found['ring']}: {_PHASES[found['phase']]}."
    else:
        yield f"Release {release['release']} (counter {release['counter']}) of ring {found['ring']}: {found['phase']}."
        yield f"  {_sentence(_PHASES[found['phase']])}"
        if release["starts"]:
            yield f"  The process was started {counted(release['starts'], 'time')} since."
    if found["comparison"] is not None:
        yield from _shadow(found["comparison"])
    if found["trial"] is not None:
        yield from _trial(found["trial"])
    yield f"In use: {_model(found['model'])}{_config(found['in_force'])}."
    if found["before"] is not None:
        before = f"{_model(found['previous'])}{_config(found['before'])}"
        yield f"Before it: {before}; `edge-agent ota rollback` brings it back."
    yield from _end(found)


def _shadow(seen: Found) -> Iterator[str]:
    """The candidate beside the model in use, on the same ticks."""
    details = seen["details"]
    yield f"In shadow, {counted(seen['ticks'], 'tick')} beside the model that was in use:"
    if seen["failures"]:
        yield f"  It failed at {counted(seen['failures'], 'tick')}: {details['trouble']}."
    if details.get("agreement") is not None:
        both = f"both find {_agree(details['agreement'])} ticks unusual"
        yield f"  {_alike(seen['distance'])}, and {both} (rank correlation {details['agreement']:.2f})."
    else:
        yield "  Not enough ticks yet to compare scores."
    yield f"  {counted(round(seen['alarms']), 'alarm')} against {round(seen['alarms_in_use'])}, while both could alarm."
    yield f"  {seen['p99_ms']:.2f} ms a tick against {seen['p99_ms_in_use']:.2f} ms (99th percentile)."
    if details.get("skipped"):
        yield f"  {counted(details['skipped'], 'tick')} were left out because the machine was busy."


def _trial(seen: Found) -> Iterator[str]:
    """The new model beside how the agent did before it."""
    yield f"On trial for {counted(seen['ticks'], 'tick')}, beside what was before:"
    if seen["failures"]:
        yield f"  It failed at {counted(seen['failures'], 'tick')}."
    if seen["distance"] is None:
        yield "  Not enough ticks yet to compare scores."
    else:
        yield f"  {_alike(seen['distance'])}."
    yield (
        f"  {counted(seen['alarms'], 'alarm')} in {seen['watched_s']:.0f} s, "
        f"against {seen['alarms_before']} in {seen['watched_before_s']:.0f} s."
    )
    if seen["p99_ms"] is not None and seen["p99_ms_before"] is not None:
        yield f"  {seen['p99_ms']:.2f} ms a tick against {seen['p99_ms_before']:.2f} ms (99th percentile)."
    yield f"  {seen['rss_mb']:.0f} MB of memory against {seen['rss_mb_before']:.0f} MB."
    for trouble in seen["troubles"]:
        yield f"  New since: {trouble}."


def _end(found: Found) -> Iterator[str]:
    outcome = found["outcome"]
    if outcome is not None:
        why = f" ({outcome['reason']}: {outcome['message']})" if outcome["reason"] else ""
        yield f"Last release: {outcome['release']}, {outcome['result'].replace('_', ' ')} at {outcome['time']}{why}."
    if found.get("image") is not None:
        yield f"Container image wanted: {found['image']}."
    if found["denied"]:
        yield f"Not tried again: {', '.join(_short(item) for item in found['denied'])}."
    if found["metadata_expired"]:
        yield "The repository's metadata have expired: nothing is installed until they are new. Scoring goes on."
    if found["time_unconfirmed"]:
        yield "The clock is behind what is known to have passed; set it, or have it set (NTP)."
    if found["problem"] is not None:
        yield f"Problem: {found['problem']}"


def _alike(distance: float) -> str:
    words = "as before" if distance <= 0.1 else "a little differently" if distance <= 0.2 else "differently"
    return f"Its scores are spread {words} (Kolmogorov-Smirnov distance {distance:.3f} of 0 to 1)"


def _agree(correlation: float) -> str:
    if correlation >= 0.9:
        return "the same"
    return "mostly the same" if correlation >= 0.5 else "different"


def _model(model: Found | None) -> str:
    if model is None:
        return "a model that is not known"
    named = " ".join(part for part in (model["name"], model["version"]) if part) or "a model"
    return named if model["sha256"] is None else f"{named} ({model['sha256'][:12]})"


def _config(in_force: Found) -> str:
    return "" if in_force["config"] is None else f", with configuration {in_force['config'][:12]} over its own"


def _short(item: Found) -> str:
    return f"{item['sha256'][:12]} ({item['reason']})"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."

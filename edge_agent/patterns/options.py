"""Patterns as they are written in a file, and the section ``patterns`` of the configuration."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from edge_agent.options import Duration, Options
from edge_agent.patterns.words import PatternKind, Quantity, Sign, Where, Who

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Technique = Annotated[str, StringConstraints(pattern=r"^T\d{4}(\.\d{3})?$")]

FORMAT = 1
"""Version of the form of pattern files that this agent reads."""


class About(StrEnum):
    """What a pattern is matched against: one incident, of any kind or of one of them, or several incidents."""

    ANY = "any"
    PROCESS = "process"
    DATA_QUALITY = "data_quality"
    INCIDENTS = "incidents"


class Condition(Options):
    """Sensors that do something. Without ``does`` it is enough that they stand out."""

    who: Who = Field(default=Who.ANY, description="Which sensors: the first mover, the others, both, or commands.")
    does: tuple[Sign, ...] = Field(default=(), description="One of these is what they do.")
    also: tuple[Sign, ...] = Field(default=(), description="All of these they do, too.")
    of: tuple[Quantity, ...] = Field(default=(), description="One of these is what they measure.")
    where: Where = Field(default=Where.ANYWHERE, description="Where, as seen from the sensors of the stage before.")
    least: int = Field(default=1, ge=1, le=1000, description="So many sensors at least.")
    part: float | None = Field(
        default=None, gt=0, le=1, description="This part of the sensors of one area that usually move, at least."
    )
    together: Duration | None = Field(default=None, description="They began within this time of each other.")
    lasting: Duration | None = Field(default=None, description="They have done so for this long.")
    after: Duration | None = Field(default=None, description="They began at least so long after the first mover.")
    within: Duration | None = Field(default=None, description="They began at most so long after the first mover.")


class Evidence(Condition):
    """A condition that speaks for a pattern (weight above 0) or against it."""

    weight: float = Field(ge=-20, le=20, description="Added to the log odds of the pattern once it was seen.")


class Stage(Options):
    """One step of a pattern: all its conditions hold, or one of the patterns ``matches`` was found."""

    name: Name = Field(description="Shown in incidents.")
    conditions: tuple[Condition, ...] = Field(default=(), description="All of these are seen.")
    matches: tuple[Name, ...] = Field(default=(), description="Patterns of which one was the likeliest of an incident.")
    where: Where = Field(default=Where.ANYWHERE, description="Where, as seen from the stage before; for `matches`.")
    within: Duration | None = Field(default=None, description="It begins at most so long after the stage before.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.conditions) == bool(self.matches):
            raise ValueError(f"stage {self.name!r} has both or none, expected either `conditions` or `matches`")
        return self


class Pattern(Options):
    """A known attack or fault: stages in order, and what speaks for or against it."""

    id: Name = Field(description="Its name for machines.")
    title: Annotated[str, StringConstraints(min_length=1, max_length=120)] = Field(description="Shown to people.")
    kind: PatternKind = Field(description="An attack or a fault.")
    about: About = Field(default=About.PROCESS, description="What it is matched against.")
    techniques: tuple[Technique, ...] = Field(default=(), description="Ids of MITRE ATT&CK for ICS.")
    weight: float = Field(default=0.0, ge=-20, le=20, description="Log odds once all stages were seen.")
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=8, description="What happens, in order.")
    evidence: tuple[Evidence, ...] = Field(default=(), max_length=32, description="What speaks for it or against it.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        across = self.about is About.INCIDENTS
        for stage in self.stages:
            if across != bool(stage.matches):
                wanted = "`matches`" if across else "`conditions`"
                raise ValueError(f"stage {stage.name!r} of a pattern about {self.about.value}: expected {wanted}")
        if self.kind is PatternKind.FAULT and self.techniques:
            raise ValueError("a fault has no techniques; expected `kind: attack`, or none of them")
        return self


class PatternFile(Options):
    """A file of patterns. ``techniques`` names all ids that its patterns use."""

    version: int = Field(ge=FORMAT, le=FORMAT, description="Form of this file.")
    edition: str = Field(default="", max_length=40, description="Edition of its content.")
    attack: str = Field(default="", max_length=40, description="Version of MITRE ATT&CK that the ids are taken from.")
    techniques: dict[Technique, str] = Field(default={}, description="Names of techniques by id.")
    sharpness: float = Field(default=1.0, gt=0, le=10, description="Factor on log odds, by which confidence is true.")
    patterns: tuple[Pattern, ...] = Field(max_length=500, description="The patterns.")

    @model_validator(mode="after")
    def _unique(self) -> Self:
        seen: set[str] = set()
        for pattern in self.patterns:
            if pattern.id in seen:
                raise ValueError(f"pattern {pattern.id!r} is given twice; remove one")
            seen.add(pattern.id)
        return self


class PatternOptions(Options):
    """Known attacks and faults that incidents are compared with."""

    enabled: bool = Field(default=True, description="Say which known attacks and faults an incident looks like.")
    file: Path | None = Field(
        default=None, description="Patterns of your own beside those of the agent; one of the same `id` replaces it."
    )
    disabled: tuple[Name, ...] = Field(default=(), description="Patterns of the agent that are not wanted, by id.")
    least_confidence: float = Field(default=0.2, ge=0, le=1, description="Less likely ones are not told.")
    most: int = Field(default=3, ge=1, le=20, description="So many are told of an incident, the likeliest first.")

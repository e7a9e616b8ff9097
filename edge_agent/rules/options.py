"""Options of one rule."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from edge_agent.options import Duration, Options
from edge_agent.rules.syntax import parse
from edge_agent.rules.tree import Expression
from edge_agent.schedule import WindowOptions
from edge_agent.verdict import Severity

_KINDS = ("when", "limit", "rate", "deviation")


class _Band(Options):
    above: float | None = Field(default=None, allow_inf_nan=False, description="It holds above this.")
    below: float | None = Field(default=None, allow_inf_nan=False, description="It holds below this.")
    deadband: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Once it holds, the value has to come back by so much before it ends.",
    )

    @model_validator(mode="after")
    def _a_limit(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("got neither `above` nor `below`, expected at least one of them")
        if self.above is not None and self.below is not None:
            if self.below > self.above:
                raise ValueError(f"below is {self.below:g} and above {self.above:g}, so it would always hold")
            if 2 * self.deadband > self.above - self.below:
                raise ValueError(
                    f"deadband is {self.deadband:g}, so it would never end between {self.below:g} and {self.above:g}; "
                    f"expected at most {(self.above - self.below) / 2:g}"
                )
        return self


class LimitOptions(_Band):
    """The value, in the sensor's unit."""


class RateOptions(_Band):
    """How much the value changes within a time, in the sensor's unit."""

    per: Duration = Field(
        default=60.0, gt=0, le=86_400, description="Time in which it changes by more than `above` or `below`."
    )


class DeviationOptions(Options):
    """How far the value is from where it should be."""

    target: float | str = Field(description="Where it should be: a number, or the sensor with the setpoint.")
    by: float = Field(gt=0, allow_inf_nan=False, description="It holds when the value is further away than this.")
    deadband: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="It ends when the value is so much nearer again."
    )

    @field_validator("target", mode="before")
    @classmethod
    def _a_number_or_sensor(cls, target: Any) -> Any:
        if isinstance(target, bool) or target == "" or (isinstance(target, float) and not math.isfinite(target)):
            raise ValueError(f"got {target!r}, expected a number, or the sensor with the setpoint")
        return target

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        if self.deadband >= self.by:
            raise ValueError(
                f"deadband is {self.deadband:g}, expected less than `by` ({self.by:g}): it would never end"
            )
        return self


class RuleOptions(Options):
    """One rule: exactly one of `when`, `limit`, `rate` and `deviation` says what is watched for."""

    when: str | None = Field(
        default=None,
        min_length=1,
        description="Expression over sensors that is true when something is wrong.",
        examples=["pump.P101 == on and flow.FIT101 < 0.1 for 30s"],
    )
    until: str | None = Field(
        default=None,
        min_length=1,
        description="Expression that ends it, with `when`. Default: `when` is false.",
        examples=["flow.FIT101 > 0.3"],
    )
    limit: LimitOptions | None = Field(default=None, description="A value too high or too low.")
    rate: RateOptions | None = Field(default=None, description="A value that changes too fast.")
    deviation: DeviationOptions | None = Field(default=None, description="A value too far from where it should be.")
    sensors: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Sensors that each are judged, as names or shell-style patterns; `sensor` stands for each in "
        "`when` and `message`.",
    )
    lasting: Duration | None = Field(
        default=None,
        alias="for",
        ge=0,
        description="How long it must be true before an incident opens. Default: at once.",
    )
    clear_after: Duration | None = Field(
        default=None,
        ge=0,
        description="How long it must be false before the incident closes. Default: `decision.close_after`.",
    )
    severity: Severity = Field(default=Severity.MEDIUM, description="How urgent an incident of this rule is.")
    message: str | None = Field(
        default=None,
        max_length=1_000,
        description="What people are told; `{NAME}` is the value of a sensor with its unit, `{sensor}`, `{value}`, "
        "`{limit}` and `{rule}` what they say. Default: the sensors, their values and the limit.",
        examples=["P101 runs dry: only {flow.FIT101}"],
    )
    schedule: tuple[WindowOptions, ...] = Field(default=(), description="When it applies. Default: always.")
    flagged: bool = Field(
        default=False,
        description="Also judge values that are stuck, stale or flagged otherwise; they count as missing else.",
    )
    enabled: bool = Field(default=True, description="False: the rule is checked, but not watched.")

    @field_validator("when", "until")
    @classmethod
    def _an_expression(cls, text: str | None) -> str | None:
        if text is not None:
            parse(text)
        return text

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(f"`{name}`" for name in given) or "none"
            raise ValueError(f"got {found} of {', '.join(_KINDS)}, expected exactly one of them")
        if self.when is None and not self.sensors:
            raise ValueError(f"`{given[0]}` needs `sensors`, such as `sensors: [tank.*.level]`")
        if self.until is not None and self.when is None:
            raise ValueError("`until` goes with `when`; a limit has `deadband`")
        expression = self.expression
        if expression is not None and expression.lasting_s is not None and self.lasting is not None:
            raise ValueError("`for` is given twice: at the end of `when` and as an option; remove one")
        until = self.ending
        if until is not None and until.lasting_s is not None and self.clear_after is not None:
            raise ValueError("`for` at the end of `until` and `clear_after` say the same; remove one")
        return self

    @property
    def expression(self) -> Expression | None:
        """``when``, parsed."""
        return None if self.when is None else parse(self.when)

    @property
    def ending(self) -> Expression | None:
        """``until``, parsed."""
        return None if self.until is None else parse(self.until)

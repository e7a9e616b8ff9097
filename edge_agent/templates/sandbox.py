"""Jinja2, cut down to what is bounded: whatever a template says, it ends soon, stays small and touches nothing.

Three things make sure of that, beside Jinja2's own sandbox (which bounds neither time nor memory):

* statements that repeat without bound or collect are refused when the template is read: macros, blocks, imports,
  recursive loops, powers, and lists made of variables and kept in variables (their text could double at each step);
* filters, tests and methods are those named here and in ``filters``, each with a bounded result;
* every step of the rendering is paid for, by turns of loops and by characters (``meter``).

Nothing looks at a clock: the same event gives the same text, or the same failure, on every machine.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from types import BuiltinMethodType, TracebackType
from typing import Any, Final, cast

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, meta, nodes
from jinja2 import Template as JinjaTemplate
from jinja2.exceptions import SecurityError as Refused
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_agent.templates.filters import filters, limited_range, shown, tests
from edge_agent.templates.meter import LONGEST_TEXT, Work, bounded, current, spend

LONGEST_SOURCE: Final = 16_384
_LARGEST_NUMBER: Final = 1e30
_NAME: Final = "<template>"
_METHODS: Final = frozenset({"get", "items", "keys", "values", "startswith", "endswith", "upper", "lower", "strip"})
_STATEMENTS: Final = "{{ … }}, {% if %}, {% for %}, {% set %} and {# … #}"
_ALLOWED: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign, nodes.Const, nodes.Name,
    nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr, nodes.Filter, nodes.Test,
    nodes.Call, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand, nodes.And,
    nodes.Or, nodes.Not, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos,
)  # fmt: skip
_FAILURES: Final = (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError)


class Compiled:
    """A template that was read. :raises ValueError: it cannot be, saying line and reason."""

    def __init__(self, source: str, variables: Iterable[str]) -> None:
        if len(source) > LONGEST_SOURCE:
            raise ValueError(f"the template has {len(source)} characters, expected at most {LONGEST_SOURCE}")
        before = current.set(Work())
        try:
            tree = _environment().parse(source)
            _Restriction(frozenset(variables)).apply(tree)
            self._template: JinjaTemplate = _environment().from_string(tree)
        except TemplateSyntaxError as error:
            raise ValueError(f"line {error.lineno}: {error.message}") from error
        except (RecursionError, MemoryError, SyntaxError, OverflowError) as error:
            raise ValueError(f"the template is nested too deeply ({error})") from error
        finally:
            current.reset(before)

    def render(self, variables: Mapping[str, Any], longest: int = LONGEST_TEXT) -> str:
        """The text. :raises ValueError: the template fails on these values or its text is too long; nothing hangs."""
        work = Work()
        before = current.set(work)
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(variables):
                pieces.append(piece)
                length += len(piece)
                work.spend(1 + len(piece) // 1000)
                if length > longest:
                    raise ValueError(f"the text is longer than {longest} characters")
        except _FAILURES as error:
            line = _line(error.__traceback__)
            raise ValueError(f"line {line}: {error}" if line else str(error)) from error
        finally:
            current.reset(before)
        return "".join(pieces)


class _Restriction:
    """Refuses what is not bounded, and puts a meter on what depends on the size of values."""

    def __init__(self, variables: frozenset[str]) -> None:
        self._variables = variables

    def apply(self, tree: nodes.Template) -> None:
        for name in sorted(meta.find_undeclared_variables(tree) - self._variables - {"range"}):
            near = _nearest(name, self._variables)
            raise TemplateSyntaxError(f"there is no variable {name!r}{near}", _line_of(tree, name), None, _NAME)
        self._check(tree, kept=False)
        self._meter(tree)

    def _check(self, node: nodes.Node, kept: bool) -> None:
        recursive = isinstance(node, nodes.For) and node.recursive
        if not isinstance(node, _ALLOWED) or recursive:
            what = "a recursive loop" if recursive else type(node).__name__
            raise TemplateSyntaxError(f"{what} is not allowed in a template, only {_STATEMENTS}", node.lineno, None)
        literal = isinstance(node, nodes.List | nodes.Dict | nodes.Tuple) and getattr(node, "ctx", "load") == "load"
        if kept and literal and any(True for _ in node.find_all(nodes.Name)):
            raise TemplateSyntaxError("a list in {% set %} or {% for %} takes only constants", node.lineno, None)
        for field, child in _children(node):
            self._check(child, kept or (isinstance(node, nodes.Assign | nodes.For) and field in ("node", "iter")))

    def _meter(self, node: nodes.Node) -> None:
        for _, child in list(_children(node)):
            self._meter(child)
        if isinstance(node, nodes.For):
            node.iter = _filter("_turns", node.iter)
        elif isinstance(node, nodes.Compare):
            node.expr = _filter("_paid", node.expr)
            for operand in node.ops:
                operand.expr = _filter("_paid", operand.expr)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            node.node = _filter("_paid", node.node)
        for field, value in node.iter_fields():
            if isinstance(value, nodes.Concat):
                setattr(node, field, _joined(value))
            elif isinstance(value, list):
                value[:] = [_joined(item) if isinstance(item, nodes.Concat) else item for item in value]


def _children(node: nodes.Node) -> Iterator[tuple[str, nodes.Node]]:
    for field, value in node.iter_fields():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, nodes.Node):
                yield field, child


def _filter(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=_environment())


def _joined(node: nodes.Concat) -> nodes.Filter:
    parts = nodes.List(node.nodes, lineno=node.lineno, environment=_environment())
    return _filter("join", parts)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Names in a mapping win over its methods; a missing one is told with its neighbours."""
        if isinstance(obj, Mapping):
            if attribute in obj:
                return obj[attribute]
            if attribute not in _METHODS:
                return self.undefined(f"there is no {attribute!r} here{_nearest(attribute, obj)}", name=attribute)
        return super().getattr(obj, attribute)

    def is_safe_callable(self, obj: Any) -> bool:
        if obj is limited_range:
            return True
        method = isinstance(obj, BuiltinMethodType) and type(obj.__self__) in (dict, str)
        return method and obj.__name__ in _METHODS

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """As Jinja2 has it: no argument of the template can have the name of a parameter."""
        if isinstance(__obj, Undefined):
            str(__obj)  # says what is undefined
        if not __self.is_safe_callable(__obj):
            name = getattr(__obj, "__name__", type(__obj).__name__)
            raise Refused(f"{name!r} cannot be called in a template; use filters, such as {{{{ x | upper }}}}")
        spend(1)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        texts = isinstance(left, str) and isinstance(right, str)
        if texts and operator == "+":
            return bounded(str(left) + str(right))
        for value in (left, right):
            if isinstance(value, Undefined):
                str(value)  # says what is undefined
            if not isinstance(value, int | float) or abs(value) > _LARGEST_NUMBER:
                shown = "a large number" if isinstance(value, int | float) else f"{type(value).__name__}"
                raise Refused(f"`{operator}` takes two numbers (`+` two texts as well), got {shown}")
        spend(1)
        return super().call_binop(context, operator, left, right)


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(map(str, known))
    near = difflib.get_close_matches(name, names, 1)
    return f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(names[:20])}"


def _line_of(tree: nodes.Template, name: str) -> int:
    return next(node.lineno for node in tree.find_all(nodes.Name) if node.name == name)


def _line(trace: TracebackType | None) -> int | None:
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _make_environment() -> _Environment:
    # Output is text, mail or JSON, not a web page: the filter `escape` is there for those who send HTML.
    environment = _Environment(
        undefined=StrictUndefined, autoescape=False, optimized=False, finalize=shown, cache_size=0
    )
    environment.globals = {"range": limited_range}
    environment.filters = cast(Any, filters())
    environment.tests = cast(Any, tests())
    return environment


_made: list[_Environment] = []


def _environment() -> _Environment:
    if not _made:
        _made.append(_make_environment())
    return _made[0]

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from edge_agent import registry
from edge_agent.contract import AdapterContext, SinkAdapter, SourceAdapter, SourceOptions
from edge_agent.errors import AdapterError, ConfigError
from edge_agent.registry import Group
from edge_agent.testing.rule import new_context

MODULE = "registry_example"


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Entry points as if other packages were installed: one good, some broken in every way."""
    entries = [
        EntryPoint("good", "edge_agent.contract:SourceOptions", "edge_agent.sources"),
        EntryPoint("absent", "no_such_module_at_all:SOURCE", "edge_agent.sources"),
        EntryPoint("unnamed", "edge_agent.contract:NO_SUCH_NAME", "edge_agent.sources"),
        EntryPoint("modbus", "edge_adapters.modbus:SOURCE", "edge_agent.sources"),
        EntryPoint("modbus", "no_such_module_at_all:SECOND", "edge_agent.sources"),
    ]
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [e for e in entries if e.group == group])
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


def test_names_are_sorted_and_nothing_is_loaded() -> None:
    assert list(registry.names(Group.SOURCES)) == sorted(registry.names(Group.SOURCES))
    assert "modbus" in registry.names(Group.SOURCES)


def test_adapter_is_found() -> None:
    assert isinstance(registry.source_adapter("modbus"), SourceAdapter)
    assert isinstance(registry.sink_adapter("file"), SinkAdapter)


def test_unknown_adapter_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"got 'mobdus', expected one of the source adapters .*; did you mean 'modbus'\?"
    ):
        registry.source_adapter("mobdus")


@pytest.mark.usefixtures("announce")
def test_broken_entry_points_do_not_take_the_others_down() -> None:
    good, broken = registry.adapters(Group.SOURCES)
    assert [adapter.name for adapter in good] == ["modbus"]
    problems = {item.name: item.problem for item in broken}
    assert "cannot be loaded from no_such_module_at_all:SOURCE: ModuleNotFoundError" in problems["absent"]
    assert "AttributeError" in problems["unnamed"]
    assert "is a ModelMetaclass, expected a SourceAdapter" in problems["good"]


@pytest.mark.usefixtures("announce")
def test_first_distribution_wins_a_name() -> None:
    assert registry.source_adapter("modbus").name == "modbus"


@pytest.mark.usefixtures("announce")
def test_empty_group_is_said_to_be_empty() -> None:
    with pytest.raises(ConfigError, match="expected a sink adapter, but none is installed"):
        registry.sink_adapter("file")


def without_library(extra: str | None) -> SourceAdapter:
    def build(options: SourceOptions, context: AdapterContext) -> None:
        raise ModuleNotFoundError("No module named 'paho'", name="paho")

    return SourceAdapter("example", "An example.", SourceOptions, build, extra=extra)  # type: ignore[arg-type]


def test_missing_extra_says_what_to_install() -> None:
    with pytest.raises(AdapterError) as caught:
        registry.build_source(without_library("mqtt"), SourceOptions(type="example"), new_context("press"))
    assert str(caught.value) == (
        "sources.press: example needs 'paho', which is not installed: pip install 'edge-graph-agent[mqtt]'"
    )


def test_missing_library_without_an_extra_is_named() -> None:
    with pytest.raises(AdapterError, match="example needs the Python package 'paho', which cannot be imported"):
        registry.build_source(without_library(None), SourceOptions(type="example"), new_context("press"))


def test_smallest_extra_with_a_module_is_found() -> None:
    assert registry.extra_with("paho.mqtt.client") == "mqtt"
    assert registry.extra_with("torch") == "train"
    assert registry.extra_with("no_such_module") is None


def test_installed_extras_miss_nothing() -> None:
    assert registry.missing_packages("mqtt") == ()

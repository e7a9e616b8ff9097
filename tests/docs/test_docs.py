"""The docs are complete, and true where a program can tell."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from edge_agent.cli.app import cli
from edge_agent.cli.docs import rendered
from edge_agent.cli.exit_codes import ExitCode
from edge_agent.cli.reference_pages import commands, our_adapters, pages
from edge_agent.config import load_config, parse_config
from edge_agent.config.options_text import options_text
from edge_agent.config.sample import adapter_sample
from edge_agent.config.schema import ENTRY_OPTIONS, SECTION_NAMES, SECTION_SUMMARIES, SECTIONS
from edge_agent.metrics import Metrics
from edge_agent.registry import ADAPTER_GROUPS, group_of

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("adapters/edge_adapters/*/README.md")])
ADAPTERS = [adapter for group in ADAPTER_GROUPS for adapter in our_adapters(group)]


def test_generated_pages_are_up_to_date() -> None:
    stale = [str(path) for path, text in rendered(ROOT).items() if not path.is_file() or path.read_text() != text]
    assert not stale, "run `make docs`"


@pytest.mark.parametrize("name", SECTION_NAMES)
def test_every_section_and_option_is_documented(name: str) -> None:
    page = (REFERENCE / "configuration.md").read_text()
    assert f"\n## {name}\n\n{SECTION_SUMMARIES[name]}" in page
    options = SECTIONS.get(name) or ENTRY_OPTIONS.get(name)
    for text in () if options is None else options_text(options):
        assert f"| `{text.name}` |" in page


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: f"{type(adapter).__name__}-{adapter.name}")
def test_every_option_has_a_description_that_is_a_sentence(adapter: object) -> None:
    for text in options_text(adapter.options):  # type: ignore[attr-defined]
        assert text.description.endswith((".", ")", "`")), text.name
        assert text.description[0].isupper() or text.description[0] in "`0123456789", text.name


def test_every_metric_is_documented_once() -> None:
    page = (REFERENCE / "metrics.md").read_text()
    for family in Metrics().families():
        assert page.count(f"| `{family.name}` |") == 1
        assert family.description.endswith(".")


def test_every_metric_keeps_to_the_naming() -> None:
    for family in Metrics().families():
        assert family.name.startswith("edge_agent_")
        assert (family.kind == "counter") == family.name.endswith("_total")


def test_every_command_is_documented() -> None:
    page = (REFERENCE / "cli.md").read_text()
    found = [" ".join(path) for path, _, _ in commands() if path]
    assert {"run", "check", "model swap", "adapters show"} <= set(found)
    for name in found:
        assert f"\n## edge-agent {name}\n" in page


def test_every_command_and_option_has_help() -> None:
    for path, command, context in commands():
        assert command.help, path
        for parameter in command.get_params(context):
            assert not isinstance(parameter, click.Option) or parameter.help, (path, parameter.name)


def test_every_exit_code_is_documented() -> None:
    page = (REFERENCE / "cli.md").read_text()
    for code in ExitCode:
        assert f"| {int(code)} | {code.meaning} |" in page


def test_pages_are_the_same_wherever_they_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    here = pages()
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("EDGE_AGENT_CONFIG", "/elsewhere.yaml")
    assert pages() == here


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: f"{type(adapter).__name__}-{adapter.name}")
def test_sample_of_every_adapter_is_a_valid_configuration(adapter: object) -> None:
    package = adapter.options.__module__.rpartition(".")[0]  # type: ignore[attr-defined]
    path = ROOT / "adapters" / package.replace(".", "/") / "sample.yaml"
    config = load_config(path, {}, sources_required=False)
    assert config.sources or config.sinks or config.uplinks


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: f"{type(adapter).__name__}-{adapter.name}")
def test_init_gives_a_valid_file_for_every_adapter(adapter: object, tmp_path: Path) -> None:
    kind = f"--{group_of(adapter).noun}"  # type: ignore[arg-type]
    path = tmp_path / "agent.yaml"
    result = CliRunner().invoke(cli, ["init", str(path), kind, adapter.name])  # type: ignore[attr-defined]
    assert result.exit_code == 0, result.output
    assert load_config(path, {}).sources
    assert adapter_sample(adapter) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_configuration_are_valid(page: Path, tmp_path: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.DOTALL):
        sections = yaml.safe_load(block)
        if isinstance(sections, dict) and set(sections) <= set(SECTION_NAMES) and "acme" not in block:
            without_files = re.sub(r"\$\{file:[^}]*\}", "a-secret-of-16-chars", block)
            for beside in (*page.parent.glob("*.csv"), *page.parent.glob("*.yaml")):
                (tmp_path / beside.name).write_text(beside.read_text())
            parse_config(without_files, tmp_path / "agent.yaml", {}, sources_required=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_examples_exist(page: Path) -> None:
    known = {" ".join(path): (command, context) for path, command, context in commands() if path}
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), flags=re.DOTALL):
        for line in re.findall(r"^\s*edge-agent (.+)$", block, flags=re.MULTILINE):
            words = shlex.split(line.split("#")[0])
            name = next((n for n in (" ".join(words[:count]) for count in (3, 2, 1)) if n in known), None)
            assert name is not None or words[0].startswith("-"), line
            if name is not None:
                command, context = known[name]
                options = {option for parameter in command.get_params(context) for option in parameter.opts}
                given = {word.split("=")[0] for word in words if word.startswith("-")}
                assert given <= options | {"-h", "--help", "--version"}, line


def test_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in ROOT.glob("docs/**/*.md"):
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "index.md" or f"({name})" in index, name


def test_pip_installs_the_right_distribution() -> None:
    for page in PAGES:
        assert not re.search(r"pip install [^\n]*['\" ]edge-agent\b", page.read_text()), page


def test_version_is_in_one_place_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


def test_constraints_name_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    names = {re.match(r"[A-Za-z0-9._-]+", text)[0].lower() for text in wanted} - {"edge-graph-agent"}  # type: ignore[index]
    pinned = {
        line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert names == pinned


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_contains_only_our_three_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edge_agent", "edge_adapters", "edge_models"}


def test_wheel_has_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "edge_agent", "adapters", "models"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {re.sub(r"^(adapters|models)/", "", name) for name in listed if (ROOT / name).is_file()}
    assert wanted <= set(wheel.namelist())


def test_wheel_has_readme_and_sample_of_each_adapter(wheel: zipfile.ZipFile) -> None:
    for adapter in ADAPTERS:
        folder = adapter.options.__module__.rpartition(".")[0].replace(".", "/")
        assert {f"{folder}/README.md", f"{folder}/sample.yaml"} <= set(wheel.namelist())


def test_root_command_is_documented_in_the_readme() -> None:
    assert cli.name == "cli"
    for name in ("make run", "make test"):
        assert f"```sh\n{name}\n```" in (ROOT / "README.md").read_text()

from pathlib import Path

from edge_agent.bundle import ALLOWED_OPERATORS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "bundle.md"


def test_allowed_operators_are_those_of_the_reference_page() -> None:
    listed = PAGE.read_text().split("<!-- operators -->")[1].split("<!-- /operators -->")[0].split()
    assert listed == sorted(ALLOWED_OPERATORS)

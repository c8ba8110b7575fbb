"""What documents point at is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(
        path
        for folder in ("docs", "services", "benchmarks", "recipes", "deploy")
        for path in (ROOT / folder).rglob("*.md")
    ),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", document.read_text())
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


def test_the_capabilities_name_code_and_a_test_for_each() -> None:
    rows = re.findall(
        r"^\| (?!\*\*|capability|-)(.+?) \| (.+?) \| (.+?) \|$", (ROOT / "docs/capabilities.md").read_text(), re.M
    )
    assert len(rows) > 20
    for capability, code, tests in rows:
        assert "](" in code, capability
        assert "](../tests/" in tests, capability


def test_every_test_that_the_security_document_names_is_there() -> None:
    named = re.findall(r"\[([^\]]+)\]\(\.\./(tests/[^)]+)\)", (ROOT / "docs/security.md").read_text())
    assert len(named) > 40
    for sentence, path in named:
        name = f"test_{sentence.replace(' ', '_').replace('-', '_')}"
        assert re.search(rf"def {name}\(", (ROOT / path).read_text()), name

"""The documentation: all pages can be found, all links lead somewhere, and what it says of data is so."""

import json
import re
from pathlib import Path

import pytest
from conftest import ROOT

from lmrl.data.__main__ import main
from lmrl.data.store import load

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"https?://|mailto:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{link}: there is no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: there is no such heading"


def test_the_index_lists_all_pages() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - listed == {index}


def test_nobody_is_told_to_install_lmrl_from_an_index() -> None:
    """It is on none: the name could be somebody else's package one day."""
    folders = ("src", "docs", "conf", "sweeps", "README.md", "CONTRIBUTING.md", "Makefile")
    files = [
        file for name in folders for file in ((ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name])
    ]
    texts = [file for file in files if file.suffix in (".py", ".md", ".yaml", "") and file.is_file()]
    assert len(texts) > 200
    for file in texts:
        assert not re.search(r"pip install\s+(?:-\S+\s+)*[\"'`]*lmrl", file.read_text()), file


def test_the_example_of_own_dialogues_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```", (ROOT / "docs" / "data.md").read_text(), re.MULTILINE | re.DOTALL)
    file = tmp_path / "own.jsonl"
    file.write_text(example)
    assert main(["import", "task=maze", "--file", str(file), f"data_dir={tmp_path}"]) == 0
    won, cut = load(capsys.readouterr().out.splitlines()[0]).trajectories
    assert ([turn.text for turn in won.turns], won.total_reward, won.terminated) == (
        ["Guess from 1 to 9.\n", "5\n", "Lower\n", "3\n", "Right\n"], -1, True,
    )  # fmt: skip
    assert (cut.total_reward, cut.truncated) == (-1, True)
    assert json.loads(example.splitlines()[0])["rewards"] == [-1, 0]

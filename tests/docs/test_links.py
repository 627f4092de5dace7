"""README, CONTRIBUTING and docs/: links lead somewhere, and commands exist."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
)
MAKE = re.compile(r"(?<![\w.-])make((?: +[\w.-]+)+)(?=[ =`\n,.;:)]|$)")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def parse(text: str) -> list[Token]:
    """Return the tokens of a page, those inside others after these."""

    def flat(tokens: list[Token]) -> list[Token]:
        return [each for token in tokens for each in (token, *flat(token.children or []))]

    return flat(MarkdownIt().enable("table").parse(text))


def anchors_of(text: str) -> set[str]:
    """Anchors of a page's headings in GitHub's form."""
    seen: Counter[str] = Counter()
    anchors = set()
    tokens = parse(text)
    for heading, inline in pairwise(tokens):
        if heading.type == "heading_open":
            shown = "".join(each.content for each in inline.children or [] if each.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
            anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return anchors


def leads_somewhere(page: str, link: str) -> bool:
    path, _, anchor = unquote(link).partition("#")
    target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    if not target.is_relative_to(ROOT) or not target.exists():
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors_of(target.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_and_image_resolves(page: str) -> None:
    links = [str(token.attrGet("href") or token.attrGet("src") or "") for token in parse(read(page))]
    here = [link for link in links if link and not re.match(r"[a-z]+:", link)]  # not to another site
    assert [link for link in here if not leads_somewhere(page, link)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    code = [token.content for token in parse(read(page)) if token.type in ("fence", "code_block", "code_inline")]
    words = {word for each in code for arguments in MAKE.findall(each) for word in arguments.split()}
    assert {word for word in words if not word.isupper()} - set(TARGET.findall(read("Makefile"))) == set()


def test_anchors_have_the_form_of_github() -> None:
    text = "# A `b_c`: what's [new](x.md)?\n## Run it\n```\n# no heading\n```\n## Run it\n"
    assert anchors_of(text) == {"a-b_c-whats-new", "run-it", "run-it-1"}

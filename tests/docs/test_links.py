"""README, CONTRIBUTING and docs/: links lead somewhere, commands exist, and the front page stays short."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
)

FENCE = re.compile(r"^(`{3,}|~{3,})[^\n]*\n.*?^\1[ ]*$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:(?<=\n\n) {4}[^\n]*\n(?:(?: {4}[^\n]*)?\n)*)")
INLINE_CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"!?\[(?:[^\[\]]|!?\[[^\]]*\]\([^)]*\))*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)? *$", re.MULTILINE)
MAKE = re.compile(r"(?<![\w.-])make((?: +[\w.-]+)+)(?=[ =`\n,.;:)]|$)")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose_of(text: str) -> str:
    """Leave out code, in which brackets are no links and # is no heading."""
    return INLINE_CODE.sub("", INDENTED.sub("", FENCE.sub("", text)))


def code_of(text: str) -> list[str]:
    without_fences = FENCE.sub("", text)
    return [
        *(match[0] for match in FENCE.finditer(text)),
        *(match[0] for match in INDENTED.finditer(without_fences)),
        *(match[0].strip("`") for match in INLINE_CODE.finditer(without_fences)),
    ]


def anchors_of(text: str) -> set[str]:
    """Anchors of a page's headings in GitHub's form."""
    seen: Counter[str] = Counter()
    anchors = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return anchors


def leads_somewhere(target: Path, anchor: str) -> bool:
    if not target.is_relative_to(ROOT) or not target.exists():
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors_of(target.read_text(encoding="utf-8")))


def broken_links(page: str) -> list[str]:
    broken = []
    for link in LINK.findall(prose_of(read(page))):
        if re.match(r"[a-z]+:", link):
            continue  # another site
        path, _, anchor = unquote(link).partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if not leads_somewhere(target, anchor):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_and_image_resolves(page: str) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    targets = set(TARGET.findall(read("Makefile")))
    named = {
        word
        for code in code_of(read(page))
        for arguments in MAKE.findall(code)
        for word in arguments.split()
        if not word.isupper()  # a variable
    }
    assert named - targets == set()


def test_anchors_have_the_form_of_github() -> None:
    text = "# A `b_c`: what's [new](x.md)?\n## Run it\n```\n# no heading\n```\n## Run it\n"
    assert anchors_of(text) == {"a-b_c-whats-new", "run-it", "run-it-1"}


def test_links_in_code_are_none() -> None:
    text = "[a](b.md) `[c](d.md)`\n\n    [e](f.md)\n\n```\n[g](h.md)\n```\n![i](j.png)\n"
    assert LINK.findall(prose_of(text)) == ["b.md", "j.png"]

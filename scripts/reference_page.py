"""The API reference that the service serves at `/docs`: docs/api.md as HTML, made by `make docs`.

So there is one text, whose examples are checked by tests. An example of each route, made from the table of routes,
follows it. Links to other documents become plain text, because the service does not serve those.

The page needs no scripts. With scripts, it can be searched, and the examples have the address of the service.
"""

import re
from itertools import pairwise
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from scripts.route_examples import examples

SOURCE: Final = Path(__file__).resolve().parents[1] / "docs/api.md"
FILE: Final = Path(__file__).resolve().parents[1] / "ytmp3/http/page/static/docs.html"

_HEADING: Final = re.compile(r'<h([23]) id="([^"]+)">(.*?)</h[23]>')
_PAGE: Final = """\
<!doctype html>
<html lang="en" data-base="$base">
<head>
  <meta charset="utf-8">
  <title>ytmp3: the HTTP API</title>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <link rel="icon" href="$icon" type="image/svg+xml">
  <link rel="stylesheet" href="$style">
  <script type="module" src="$docs"></script>
</head>
<body class="reference">
<header><p><a href="$base/">ytmp3</a> · <a href="$base/openapi.json">openapi.json</a></p>
<search hidden><label for="search">Search</label> <input id="search" type="search" placeholder="a route, field or code">
<p id="found" class="hint" role="status"></p></search></header>
<main>
{body}</main>
</body>
</html>
"""


def page() -> str:
    """Return the template of the page. `$$` stands for a dollar sign."""
    markdown = MarkdownIt("commonmark").enable("table")
    text = SOURCE.read_text(encoding="utf-8")
    # The contents at the beginning get one more link, and the examples follow the table of routes.
    text = text.replace("[Routes](#routes) ·", "[Routes](#routes) · [Try each route](#try-each-route) ·", 1)
    text = text.replace("\n## Errors\n", f"\n{examples()}\n## Errors\n", 1)
    tokens = markdown.parse(text)
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", slug(following.content))
    for token in tokens:
        token.children = None if token.children is None else _without_foreign_links(token.children)
    body = markdown.renderer.render(tokens, markdown.options, {})
    # A table may be wider than a phone: then it scrolls by itself, and with the keyboard too.
    body = body.replace("<table>", '<div class="table" tabindex="0"><table>').replace("</table>", "</table></div>")
    body = _HEADING.sub(
        r'<h\1 id="\2">\3 <a class="anchor" href="#\2" aria-label="Link to this section">#</a></h\1>', body
    )
    body = body.replace("<pre>", '<pre tabindex="0">')
    return _PAGE.replace("{body}", body.replace("$", "$$"))


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


def _without_foreign_links(tokens: list[Token]) -> list[Token]:
    """Drop the links that do not lead to a place on the page, and keep their texts."""
    kept, is_foreign = [], False
    for token in tokens:
        if token.type == "link_open":
            is_foreign = not str(token.attrGet("href")).startswith(("#", "https://"))
        if is_foreign and token.type in {"link_open", "link_close"}:
            is_foreign = token.type == "link_open"
            continue
        kept.append(token)
    return kept

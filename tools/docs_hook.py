"""Adds the top-level documents to the site, and rewrites links between them and docs/, so that these work in both.

In the repository, a page of docs/ links to `../SPEC.md`, README.md to `docs/boards.md`, and to the site for what runs
only there. In the site all pages are in one folder, with README.md as the first page.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {name: name for name in ("DESIGN.md", "SPEC.md", "CHANGELOG.md", "LEDGER.md", "CONTRIBUTING.md")}
PAGES["README.md"] = "index.md"
LINK = re.compile(rf"\]\(((?:\.\./)*)\.\./({'|'.join(PAGES)})(?=[)#])")  # from docs/ to the top folder


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if page.file.src_uri in PAGES.values():
        return markdown.replace("](docs/", "](").replace(f"]({config.site_url}", "](")
    return LINK.sub(lambda link: f"]({link[1]}{PAGES[link[2]]}", markdown)

"""The page: sections one below the other, files to take away inside of it, no script and nothing to load."""

import base64
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from sdplip.display import brief
from sdplip.html import SHEET
from sdplip.html.elements import Inside, Node, joined, paragraph, tag, text
from sdplip.writing import write_bytes

MOST = 2_000_000
"""Bytes of a page, at most."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser lets the page do: show itself."""
LOOK = """
body{margin:0;background:#fff}@media(prefers-color-scheme:dark){body{background:#161616}}@media print{body{background:#fff}}
.sdplip.page{margin:0 auto;padding:1rem 1rem 3rem}
.page h1{font-size:1.5rem;margin:.6rem 0 .2rem;overflow-wrap:anywhere}
.page h2{font-size:1.15rem;margin:1.6rem 0 .3rem;border-bottom:2px solid var(--line);padding-bottom:.2rem}
.page nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.5rem 0}.page a{color:var(--c0)}
.page .claim{font-size:1.05rem;border-left:4px solid var(--c0);padding-left:.7rem;margin:.7rem 0}
.page pre{overflow-x:auto;border:1px solid var(--line);padding:.5rem .7rem;margin:.5rem 0}
.page .pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(13.4rem,1fr));gap:1rem}
.page .pairs .images{display:flex;gap:.4rem}
.page .pairs img{width:4.2rem;height:4.2rem;image-rendering:pixelated;border:1px solid var(--line)}
@media print{.page nav{display:none}.sdplip.page{max-width:none;padding:0}.page h2{break-after:avoid}}
"""


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the page: `title` stands in the list at the top."""

    title: str
    body: Node

    __repr__ = brief("title")


@dataclass(frozen=True, eq=False)
class Attachment:
    """A file to take away: the one that a claim is about, or its proof.

    Attributes:
        path: of a file that is there already: it is never written again, and `content` is empty where it is too large for a page.
    """

    name: str
    content: bytes
    what: str
    path: Path | None = None

    __repr__ = brief("name", "what")

    @classmethod
    def of(cls, path: Path, what: str) -> "Attachment":
        """A file that is there already."""
        fits = path.stat().st_size < MOST
        return cls(path.name, path.read_bytes() if fits else b"", what, path)

    @property
    def size(self) -> int:
        return len(self.content) if self.path is None else self.path.stat().st_size


@dataclass(frozen=True, eq=False)
class Report:
    """What the page says.

    Attributes:
        title: what it is about.
        lead: what is claimed and proven, one sentence each.
        sections: in order.
        attachments: the certificate first.
        verify: arguments of `sdplip verify` for the attached certificate; empty without one.
        bound: the proven Lipschitz constant; None where none is proven here.
    """

    title: str
    lead: Sequence[Inside]
    sections: Sequence[Section]
    attachments: Sequence[Attachment] = field(default=())
    verify: tuple[str, ...] = ()
    bound: float | None = None

    __repr__ = brief("title", "bound", "sections", "attachments")

    @property
    def command(self) -> str | None:
        """What proves the attached certificate again, in the folder where its files lie."""
        return shlex.join(["sdplip", "verify", *self.verify]) if self.verify else None

    def write(self, path: str | os.PathLike[str]) -> list[Path]:
        """Writes the page, and beside it the attachments that would make it larger than `MOST`; all files that were written.

        Raises:
            OSError: with the name of the file.
        """
        path = Path(path)
        page, left = self.named(path.stem).html()
        beside = [one for one in left if one.path is None]
        written = [path.parent / one.name for one in beside]
        for place, one in zip(written, beside, strict=True):
            write_bytes(place, one.content)
        write_bytes(path, page.encode("utf-8"))
        return [path, *written]

    def named(self, stem: str) -> "Report":
        """The same with attachments whose names begin with that of the page, where they are no files of the user's."""
        new = {one.name: f"{stem}.{one.name}" for one in self.attachments if one.path is None}
        files = [replace(one, name=new.get(one.name, one.name)) for one in self.attachments]
        return replace(self, attachments=files, verify=tuple(new.get(name, name) for name in self.verify))

    def html(self) -> tuple[str, list[Attachment]]:
        """The page, and the attachments that it has no room for."""
        room = MOST - len(self._page([], list(self.attachments)).encode("utf-8"))
        inside, beside = list[Attachment](), list[Attachment]()
        for one in self.attachments:
            size = 4 * one.size // 3 + 1000
            (inside if size <= room else beside).append(one)
            room -= size if size <= room else 0
        return self._page(inside, beside), beside

    def _page(self, inside: list[Attachment], beside: list[Attachment]) -> str:
        titles = [section.title for section in self.sections]
        if self.attachments:
            titles.append("Proof")
        contents = tag("nav", *(tag("a", title, href=f"#{_anchor(title)}") for title in titles))
        body = [
            tag("h1", self.title),
            *(tag("p", sentence, class_="claim") for sentence in self.lead),
            contents,
            *(_section(section.title, section.body) for section in self.sections),
            _section("Proof", self._proof(inside, beside)) if self.attachments else None,
            paragraph(f"Made by sdplip {version('sdplip')}. Numbers called proven are rounded outward.", class_="soft"),
        ]  # fmt: skip
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
            tag("title", f"{self.title}: sdplip report"),
            tag("style", SHEET + LOOK),
        )
        main = tag("body", tag("main", *body, class_="sdplip page"))
        return "<!DOCTYPE html>\n" + text(tag("html", head, main, lang="en")) + "\n"

    def _proof(self, inside: list[Attachment], beside: list[Attachment]) -> Node:
        rows = []
        for one in self.attachments:
            if one in beside:
                where = (
                    "beside this page"
                    if one.path is None
                    else "too large for a page: take it from where it is"
                )
                rows.append(tag("li", tag("b", one.name), f", {one.what}: {_size(one.size)}, {where}"))
            else:
                data = base64.b64encode(one.content).decode("ascii") if one in inside else ""
                link = tag(
                    "a", one.name, href=f"data:application/octet-stream;base64,{data}", download=one.name
                )
                rows.append(tag("li", link, f", {one.what}: {_size(one.size)}"))
        again = None if self.command is None else tag("pre", tag("code", self.command))
        return joined(
            "",
            paragraph(
                "Save these files into one folder and prove every claim again; NumPy alone does it, also in the package `sdplip-verify`:"
            ),
            again,
            tag("ul", *rows),
        )  # fmt: skip


def _section(title: str, body: Node) -> Node:
    return tag("section", tag("h2", title), body, id=_anchor(title))


def _anchor(title: str) -> str:
    return "-".join(title.lower().split())


def _size(n: int) -> str:
    return f"{n / 1e6:.1f} MB" if n >= 1e6 else f"{max(1, round(n / 1000))} kB"

"""The picture of docs/report.md: `python docs/report_figure.py REPORT.html`, with a page of `sdplip report`.

Needs playwright and a Chromium (`pip install playwright`; Debian's `chromium`, or `playwright install chromium`).
"""

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "figures" / "report.png"
SCREENS = (((1000, 1180), "light"), ((390, 1180), "dark"))
GAP = 24


def screens(page: Path) -> list[Image.Image]:
    """The top of the page, with the pointer on the curve."""
    found = []
    with sync_playwright() as run:
        browser = run.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for (width, height), scheme in SCREENS:
            view = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            view.goto(page.resolve().as_uri())
            view.locator("#certified-accuracy .at rect").nth(40).hover()
            view.evaluate("scrollTo(0, 0)")
            found.append(Image.open(BytesIO(view.screenshot())))
        browser.close()
    return found


def main() -> None:
    images = screens(Path(sys.argv[1]))
    whole = Image.new("RGB", (sum(i.width for i in images) + GAP, max(i.height for i in images)), "#888888")
    at = 0
    for image in images:
        whole.paste(image, (at, 0))
        at += image.width + GAP
    whole.quantize(64).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()

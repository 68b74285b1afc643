"""`sdplip report`: one page, self-contained, below 2 MB, that says what is proven and nothing more; looked at by a browser."""

import base64
import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import sdplip
from sdplip.page import MOST, Attachment, Report, certificate_report, network_report, run_report, samples
from sdplip.training import train
from tests.commands import answer, invoke
from tests.training_runs import few, small

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A certified run, a weight file, a certificate of each."""
    place = tmp_path_factory.mktemp("report")
    train(small("train.epochs=2"), place / "run", data=few())
    assert invoke("certify", place / "run")[0] == 0
    result = place / "run" / "certification.json"
    document = json.loads(result.read_text())
    document["empirical"] = {"pgd": {"36/255": 0.5, "1": 0.0}}
    result.write_text(json.dumps(document))
    rng = np.random.default_rng(0)
    np.savez(
        place / "mlp.npz", **{"fc1.weight": rng.normal(size=(8, 6)), "fc2.weight": rng.normal(size=(3, 8))}
    )
    assert invoke("bound", place / "mlp.npz", "--certificate", place / "bound.json")[0] == 0
    assert invoke("check", place / "mlp.npz", "--certificate", place / "check.json")[0] == 1
    assert invoke("certify", place / "run", "--limit", 20, "--certificate", place / "C.json")[0] == 0
    return place


@pytest.fixture(scope="module")
def report(work):
    return run_report(work / "run", seconds=3)


class Page(HTMLParser):
    """Tags with attributes, words, and the files to take away."""

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags, self.words = [], ""
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def save(self, place):
        """Every attachment into a folder, as a browser saves it."""
        for tag, attrs in self.tags:
            if tag == "a" and "download" in attrs:
                (place / attrs["download"]).write_bytes(base64.b64decode(attrs["href"].partition(",")[2]))


def written(report, folder):
    """The page of a report; it is checked that nothing is loaded and nothing runs."""
    path = folder / "report.html"
    report.write(path)
    page = Page(path)
    assert path.stat().st_size < MOST
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "base", "form")]
    for tag, attrs in page.tags:
        assert not [key for key in attrs if key.startswith("on")]
        for key in ("src", "href", "xlink:href"):
            assert attrs.get(key, "#").startswith(("#", "data:")), (tag, attrs)
    assert "url(" not in page.text and "@import" not in page.text
    assert len({attrs["id"] for _, attrs in page.tags if "id" in attrs}) == sum(
        "id" in a for _, a in page.tags
    )
    return page


def test_a_run(report, tmp_path):
    page = written(report, tmp_path)
    for title in ("Certified accuracy", "Bound", "Images", "Scalings", "Training", "Environment", "Proof"):
        assert ("section", {"id": title.lower().replace(" ", "-")}) in page.tags
    assert (
        "as trained" in page.words and "Smallest radii" in page.words and "after attack (pgd)" in page.words
    )
    page.save(tmp_path)
    names = report.named("report").verify
    assert names[0] == "report.certificate.json"
    found = sdplip.verify(*(tmp_path / name for name in names))
    assert found.proven and len(found.claims) == 2
    assert found.claims[0].claim.bound <= report.bound * (1 + 1e-9)
    assert f"sdplip verify {' '.join(names)}" in page.words


@pytest.fixture
def quick(monkeypatch):
    """Attacks that are short."""
    monkeypatch.setattr(samples, "HALVINGS", 0)
    monkeypatch.setattr(samples, "FEW", 1)


@pytest.mark.usefixtures("quick")
def test_a_run_that_is_not_certified_and_one_without_images(work, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(work / "run", folder)
    for name in ("certification.json", "summary.json"):
        (folder / name).unlink()
    page = written(run_report(folder, seconds=0), tmp_path)
    assert "certified for this report" in page.words and "not finished" in page.words
    assert "layers left out" in page.words and "the time is over" not in page.words.split("Scalings")[0]
    config = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(re.sub(r'name = "digits"', 'name = "missing.npz"', config, count=1))
    page = written(run_report(folder, seconds=0), tmp_path)
    assert "Nothing is proven here" in page.words or "not finished" in page.words
    assert ("section", {"id": "images"}) not in page.tags


@pytest.mark.usefixtures("quick")
def test_a_certification_of_other_weights_is_not_shown(work, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(work / "run", folder)
    rows = (folder / "radii.csv").read_text().splitlines()
    wrong = [",".join([*row.split(",")[:2], "99", "0.0", "0"]) for row in rows[1:]]
    (folder / "radii.csv").write_text("\n".join([rows[0], *wrong]) + "\n")
    report = run_report(folder, seconds=0)
    assert "certified for this report" in report.lead[1]


def test_images_of_another_size_are_refused(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.zeros((200, 1, 12, 12), np.uint8)
    np.savez(
        "all.npz",
        train_images=images,
        train_labels=np.arange(200) % 10,
        test_images=images,
        test_labels=np.arange(200) % 10,
    )
    code, out, err = invoke("report", work / "run", "--data", "all.npz")
    assert code == 2 and not out and "cannot run on images of shape (1, 12, 12)" in err


def test_a_weight_file(work, tmp_path):
    report = network_report(work / "mlp.npz", seconds=5)
    page = written(report, tmp_path)
    assert report.bound == pytest.approx(sdplip.bound(work / "mlp.npz").bound, rel=1e-6)
    assert (
        "as it was read" in report.lead[0]
        and "relu stands between them" in page.words
        and "violated" in page.words
        and "min_trace" in page.words
    )
    page.save(tmp_path)
    assert sdplip.verify(*(tmp_path / name for name in report.named("report").verify)).proven


def test_certificates_are_proven_only_where_their_files_are(work, tmp_path):
    for name, network, images in (
        ("bound.json", "mlp.npz", None),
        ("check.json", "mlp.npz", None),
        ("C.json", "C.network.safetensors", "C.images.npz"),
    ):
        claimed = certificate_report(work / name)
        page = written(claimed, tmp_path)
        assert "not checked here" in page.words and "all proven again" not in page.words
        assert claimed.bound is None and "certified: proven" not in page.words
        proven = certificate_report(work / name, network=work / network, images=images and work / images)
        page = written(proven, tmp_path)
        assert "all proven again" in page.words and "NOT PROVEN" not in page.words
        page.save(tmp_path)
        assert sdplip.verify(*(tmp_path / part for part in proven.verify)).proven


def test_a_forged_certificate_is_called_so(work, tmp_path):
    document = json.loads((work / "bound.json").read_text())
    document["claims"][0]["claim"]["bound"] /= 2
    (tmp_path / "forged.json").write_text(json.dumps(document))
    report = certificate_report(tmp_path / "forged.json", network=work / "mlp.npz")
    page = written(report, tmp_path)
    assert report.bound is None and "NOT PROVEN" in report.lead[0] and "all proven" not in page.words
    other = np.random.default_rng(9).normal(size=(3, 3))
    np.savez(tmp_path / "other.npz", fc=other)
    assert "NOT PROVEN" in certificate_report(work / "bound.json", network=tmp_path / "other.npz").lead[0]


def test_what_files_say_is_text(tmp_path):
    np.savez(tmp_path / "evil.npz", **{f"{EVIL}.weight": np.eye(3)})
    page = written(network_report(tmp_path / "evil.npz", seconds=1), tmp_path)
    assert EVIL in page.words and EVIL not in page.text


def test_what_is_too_large_lies_beside_the_page(work, tmp_path):
    report = network_report(work / "mlp.npz", seconds=1)
    large = Attachment("large.bin", np.random.default_rng(0).bytes(MOST), "too large")
    paths = dataclasses.replace(report, attachments=(*report.attachments, large)).write(tmp_path / "r.html")
    assert paths == [tmp_path / "r.html", tmp_path / "r.large.bin"]
    assert paths[0].stat().st_size < MOST and paths[1].read_bytes() == large.content
    assert "beside this page" in Page(paths[0]).words and isinstance(report, Report)


def test_a_large_file_of_the_user_is_not_copied(tmp_path):
    np.save(tmp_path / "large.npy", np.random.default_rng(0).normal(size=(2, 150_000)))
    report = network_report(tmp_path / "large.npy", seconds=1)
    assert report.write(tmp_path / "r.html") == [tmp_path / "r.html"]
    page = Page(tmp_path / "r.html")
    assert "too large for a page" in page.words and (tmp_path / "r.html").stat().st_size < MOST


def test_the_command(work, tmp_path):
    out = tmp_path / "page.html"
    code, document = answer(invoke, "report", work / "mlp.npz", "-o", out, "--seconds", "2")
    assert code == 0 and document["output"] == str(out) and document["beside"] == []
    code, text, err = invoke("report", work / "check.json", "--network", work / "mlp.npz", "-o", out)
    assert (code, err) == (0, "") and "all proven again" in text and out.resolve().as_uri() in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing"], "no run or file"),
        (["."], "holds no run"),
        (["mlp.npz", "--network", "mlp.npz"], "are for a certificate"),
        (["mlp.npz", "--data", "digits"], "--data is for a run"),
        (["C.json", "--images", "C.images.npz"], "goes with --network"),
        (["mlp.npz", "-o", "page.txt"], "must end in .html"),
        (["text.json"], "not a readable certificate"),
        (["text.npz"], "text.npz"),
    ],
)
def test_bad_input_is_one_sentence(work, monkeypatch, arguments, words):
    monkeypatch.chdir(work)
    Path("text.json").write_text("hello")
    Path("text.npz").write_text("hello")
    code, out, err = invoke("report", *arguments)
    assert code == 2 and not out and words in err and "Traceback" not in err
    assert not Path("report.html").exists()


# ------------------------------------------------------------------------------------------------- a browser


@pytest.fixture(scope="module")
def browser():
    """Chromium, Debian's or playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with api.sync_playwright() as run:
        try:
            found = run.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_file(work, report):
    path = work / "browser.html"
    report.write(path)
    return path


def opened(browser, path, said, **options):
    page = browser.new_page(**options)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_renders_on_wide_and_narrow_screens_in_both_schemes(browser, page_file, width, scheme):
    said = []
    page = opened(browser, page_file, said, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width and not said
    back, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.facts th')).color]"
    )
    light, dark = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (back, ink))
    assert (light > dark) == (scheme == "light") and abs(light - dark) > 250
    page.close()


def test_it_folds_hovers_and_prints(browser, page_file):
    said = []
    page = opened(browser, page_file, said)
    tree = page.locator("#bound details").first
    leaf = tree.locator(".leaf").first
    assert leaf.is_visible()
    tree.locator("summary").first.click()
    assert not leaf.is_visible()
    chart = page.locator("#certified-accuracy svg").first
    words = chart.locator(".at text").nth(20)
    assert not words.is_visible()
    chart.locator(".at rect").nth(20).hover()
    assert words.is_visible() and re.match(
        r"r = [\d.]+: certified [\d.]+ %, truth at most", words.text_content()
    )
    for svg in page.locator("figure > svg").all():  # what appears under the pointer fits above the figure
        if svg.locator(".title").count() and svg.is_visible():
            title = svg.locator(".title").bounding_box()
            for strip in (0, svg.locator(".at").count() // 2):
                svg.locator(".at rect").nth(strip).hover()
                box = svg.locator(".at text").nth(strip).bounding_box()
                assert box["x"] >= title["x"] + title["width"], svg.get_attribute("aria-label")
    page.emulate_media(media="print")
    assert leaf.is_visible(), "What is folded is printed."
    assert not page.locator("nav").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF") and not said
    page.close()


def test_attachments_are_saved_as_they_are(browser, page_file, tmp_path):
    page = opened(browser, page_file, [])
    with page.expect_download() as waiting:
        page.locator("a[download='browser.certificate.json']").click()
    waiting.value.save_as(tmp_path / "saved.json")
    assert json.loads((tmp_path / "saved.json").read_text())["schema"].startswith("sdplip-certificate/")
    page.close()

"""Take README's two pictures: `python tools/report_screenshots.py report.html` (needs chromium and its driver)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

FOLDER = Path(__file__).parents[1] / "docs"
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--window-size=1160,1500"),
)
SHOW = """
// The most disputed question that has an image, under the strategy that kept least of it.
const ones = (packed) => [...atob(packed)].map((c) => c.charCodeAt(0).toString(2).replaceAll('0', '')).join('').length;
let found = null;
data.forEach((part, place) => part.samples.forEach((sample, row) => {
  if (sample.image === null || (found && sample.disagreement <= found.disagreement)) return;
  const passed = (cell) => part.vanilla[cell] || part.cells[cell].includes('random');
  const sizes = sample.kept.map((packed, cell) => packed === null || passed(cell) ? Infinity : ones(packed));
  const least = Math.min(...sizes);
  if (least < Infinity) found = { place, row, cell: sizes.indexOf(least), disagreement: sample.disagreement };
}));
if (!found) return false;
const select = document.getElementById('samples-benchmark');
select.value = found.place;
select.dispatchEvent(new Event('change'));
document.querySelectorAll('#samples-list button')[found.row].click();
document.querySelectorAll('#samples-answers tr')[found.cell].click();
document.querySelectorAll('#samples-answers tr')[found.cell].scrollIntoView({ block: 'center' });
return true;
"""


def main(report: Path) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for argument in (*QUIET, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        browser.get(report.resolve().as_uri())
        if not browser.execute_script(SHOW):
            browser.quit()
            sys.exit(f"{report}: no sample has an image and kept tokens; compare where the study's images are")
        shoot(browser, "report.png", 0, 1500)
        top = browser.execute_script("return document.getElementById('samples').offsetTop")
        shoot(browser, "report-samples.png", top - 46, 860)
        browser.quit()


def shoot(browser: webdriver.Chrome, name: str, top: int, height: int) -> None:
    """The page from `top` on, in 256 colours."""
    browser.execute_script("scrollTo({top: arguments[0], behavior: 'instant'})", top)
    path = FOLDER / name
    browser.save_screenshot(str(path))
    with Image.open(path) as full:
        part = full.convert("RGB").crop((0, 0, full.width, min(height, full.height)))
    part.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

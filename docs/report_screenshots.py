"""Take README's two pictures: `python docs/report_screenshots.py report.html` (needs chromium and its driver)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

FOLDER = Path(__file__).parent
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1160,1500")
LEAST_KEPT = "[...document.querySelectorAll('#samples-answers tr')].at(-1).click()"


def main(report: Path) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for argument in (*QUIET, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        browser.get(report.resolve().as_uri())
        shoot(browser, "report.png", 0, 1500)
        browser.execute_script(f"{LEAST_KEPT}; document.querySelector('.answers').scrollTop = 0;")
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

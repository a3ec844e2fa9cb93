"""Take README's picture of a report: `python tools/report_screenshot.py report.html` (chromium and its driver)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

PICTURE = Path(__file__).parents[1] / "docs/report.png"
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--window-size=1160,1500"),
)


def main(report: Path) -> None:
    """The top of the report, in 256 colours."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for argument in (*QUIET, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        browser.get(report.resolve().as_uri())
        browser.save_screenshot(str(PICTURE))
        browser.quit()
    with Image.open(PICTURE) as shot:
        small = shot.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""How long the report's page takes to open in a headless chromium, and how much of it is in the document.

    python perf/page.py reports/index.html [--times 5]

Needs selenium, chromium and chromedriver. The time is from the start of the navigation until the leaderboard is drawn
and the first image is.
"""

import argparse
import shutil
import statistics
from pathlib import Path

DRAWN = """
const done = arguments[0];
const look = () => {
  const images = [...document.querySelectorAll(".gallery")].every((root) => root.dataset.shown !== undefined);
  if (document.querySelector("table.board tbody tr") && images) done(performance.now());
  else requestAnimationFrame(look);
};
look();
"""
COUNTED = 'return ["*", "td, th"].map((selector) => document.querySelectorAll(selector).length)'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    from selenium import webdriver

    words = webdriver.ChromeOptions()
    words.binary_location = shutil.which("chromium")
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,800"):
        words.add_argument(f"--{word}")
    driver = webdriver.Chrome(options=words, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        times = []
        for _ in range(options.times):
            driver.get("about:blank")
            driver.get(options.page.resolve().as_uri())
            times.append(driver.execute_async_script(DRAWN) / 1000)
        elements, cells = driver.execute_script(COUNTED)
    finally:
        driver.quit()
    print(
        f"{options.page.stat().st_size / 1e6:.1f} MB, {elements:,} elements, {cells:,} cells of tables in the document"
    )
    print(f"opens in {statistics.median(times):.2f} s (median of {len(times)}; {min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()

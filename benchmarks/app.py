"""How soon the app can be used: from the server answering to the first page on the screen.

    python benchmarks/app.py [--repeat 5]

Each run starts a server of its own. Needs chromium and playwright (requirements-dev.txt).
"""

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        runs = [first_paint(browser) for _ in range(args.repeat)]
        browser.close()
    for name, seconds in zip(
        ("server start to healthy", "healthy to first page"), zip(*runs, strict=True), strict=True
    ):
        print(f"{name:<24} median {statistics.median(seconds):.2f} s, largest {max(seconds):.2f} s")


def first_paint(browser: Browser) -> tuple[float, float]:
    """Seconds until a new server is healthy, and from then until the demo button can be seen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", f"--server.port={port}"]
    page = browser.new_page()
    started = time.perf_counter()
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not is_healthy(port):
            time.sleep(0.02)
        healthy = time.perf_counter()
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_role("button", name="Use the demo slide").wait_for()
        return healthy - started, time.perf_counter() - healthy
    finally:
        page.close()
        server.terminate()
        server.wait()


def is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False


if __name__ == "__main__":
    main()

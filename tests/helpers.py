"""Where the programs are; waiting and asking, for all tests."""

import os
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
BIN = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"


def eventually(check, seconds=30):
    """The first value of `check()` that is true and comes without a failed assertion; asked ten times a second."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if value := check():
                return value
            reason = f"it gave {value!r}"
        except AssertionError as error:
            reason = str(error)
        assert time.monotonic() < deadline, f"not within {seconds} s: {check.__qualname__}: {reason}"
        time.sleep(0.1)


def fetch(url):
    """Body of a GET, and None where nothing answers or the answer is no 200."""
    try:
        with urlopen(url, timeout=10) as answer:
            return answer.read()
    except (URLError, TimeoutError):
        return None

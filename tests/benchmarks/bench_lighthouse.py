"""What Lighthouse says of an owner's inbox, a touchpoint and a workshop's day; what a first load weighs.

Lighthouse runs against a demo whose story waits for the visitor's answer and then stands still, in Debian's
Chromium, as a phone on a slow line (its own emulation); the workshop's day as a desk, too. Each page is
loaded `TOUCHPOINT_BENCH_RUNS` times (3), with nothing kept from before; the median counts, as Lighthouse's
makers advise. `make lighthouse` installs it (tools/lighthouse) and runs this.
"""

import http.cookiejar
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway_lab import wait_for
from real_parts import ROOT, need
from running_demo import running_demo

PROGRAM = ROOT / ".venv" / "lighthouse" / "node_modules" / "lighthouse" / "cli" / "index.js"
TRIES = 3
"""How often a run is made that ended because the browser lost its trace."""
RUNS = int(os.environ.get("TOUCHPOINT_BENCH_RUNS", "3"))
LIMITS = {"performance": 95, "accessibility": 100, "best-practices": 100}
FIRST_LOAD_KB = 100
"""1,000 bytes each, as they come over the line: page, styles, script, icons, manifest and all."""


@dataclass(frozen=True)
class Visitor:
    """Somebody at the demo's door, with all its keys."""

    address: str
    jar: http.cookiejar.CookieJar

    @property
    def _opener(self) -> urllib.request.OpenerDirector:
        return urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def get(self, path: str) -> str:
        with self._opener.open(self.address + path, timeout=60) as answer:
            return str(answer.read().decode())

    def post(self, path: str, **fields: str) -> None:
        body = urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(self.address + path, body, {"Origin": self.address})
        self._opener.open(request, timeout=60).close()

    def touchpoint(self) -> str:
        """The address of the touchpoint that waits for an answer; empty as long as there is none."""
        found = re.search(
            r'data-push[^>]*>.*?href="(/me/touchpoints/[0-9a-f-]+)"', self.get("/me"), re.DOTALL
        )
        return found[1] if found else ""

    def cookies(self) -> str:
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.jar)


def report(visitor: Visitor, path: str, preset: str, folder: Path) -> Any:
    """One run of Lighthouse over one page."""
    headers = folder / "headers.json"
    headers.write_text(json.dumps({"Cookie": visitor.cookies()}))
    command = [
        need("node", "nodejs"),
        str(PROGRAM),
        visitor.address + path,
        "--quiet",
        "--output=json",
        f"--only-categories={','.join(LIMITS)}",
        f"--extra-headers={headers}",
        "--chrome-flags=--headless=new --no-sandbox --disable-gpu",
        "--no-enable-error-reporting",
        *(["--preset=desktop"] if preset == "desk" else []),
    ]
    environment = os.environ | {"CHROME_PATH": need("chromium", "chromium")}
    for _ in range(TRIES):
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=180
        )
        if "Please run Lighthouse again" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def faults(found: Any) -> list[str]:
    """What keeps the categories from their limits, for whoever mends it."""
    return [
        f"{category}: {audit['id']} ({audit['title']}) {audit.get('displayValue', '')}"
        for category, score in found["categories"].items()
        if round(score["score"] * 100) < LIMITS[category]
        for audit in (found["audits"][part["id"]] for part in score["auditRefs"] if part["weight"])
        if audit["score"] is not None and audit["score"] < 0.95
    ]


def tell(name: str, preset: str, reports: list[Any]) -> None:
    """The figures of one page as JSON lines."""
    how = f"Lighthouse, {preset}, median of {len(reports)}"
    for category, limit in LIMITS.items():
        score = statistics.median(round(found["categories"][category]["score"] * 100) for found in reports)
        figure = {"name": f"{name}: {category}", "value": score, "unit": "of 100", "limit": limit}
        print(json.dumps(figure | {"sense": "min", "how": how}), flush=True)
    weight = max(
        sum(item["transferSize"] for item in found["audits"]["network-requests"]["details"]["items"])
        for found in reports
    )
    figure = {"name": f"{name}: first load", "value": weight / 1000, "unit": "KB", "limit": FIRST_LOAD_KB}
    print(json.dumps(figure | {"how": "all that comes over the line, nothing kept"}), flush=True)
    for fault in sorted({fault for found in reports for fault in faults(found)}):
        print(f"  {name}: {fault}", file=sys.stderr, flush=True)


def main() -> None:
    if not PROGRAM.is_file() or shutil.which("node") is None:
        print("Left out because Lighthouse is not installed: make lighthouse installs it", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as temporary, running_demo(Path(temporary)) as address:
        visitor = Visitor(address, http.cookiejar.CookieJar())
        visitor.get("/")
        wait_for(visitor.touchpoint, "the story waits for the visitor", 300)
        visitor.post("/demo/pace", pace="pause")
        pages = (
            ("inbox", "/me", "phone"),
            ("touchpoint", visitor.touchpoint(), "phone"),
            ("workshop's day", "/workshop", "phone"),
            ("workshop's day at a desk", "/workshop", "desk"),
        )
        for name, path, preset in pages:
            tell(name, preset, [report(visitor, path, preset, Path(temporary)) for _ in range(RUNS)])


if __name__ == "__main__":
    main()

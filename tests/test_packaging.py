"""The distribution: installed outside the checkout it runs, and brings its data with it."""

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from real_parts import ROOT

PACKAGES = ("config", "device_sim", "firmware_api", "gateway", "rules")

LOOK = """
import json, config, device_sim, firmware_api, gateway, rules
from config.settings import load
settings = load(None, {})
print(json.dumps({
    "places": [module.__file__ for module in (config, device_sim, firmware_api, gateway, rules)],
    "port": settings.web.port,
    "english": sorted(config.messages("en")),
    "german": sorted(config.messages("de")),
    "signals": sorted(file.name for file in config.data_path("signals").glob("*.yaml")),
    "rules": sorted(file.name for file in config.data_path("rules").glob("*.yaml")),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; what it depends on is borrowed from ours, our checkout is not."""
    home = tmp_path_factory.mktemp("outside") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(home),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, str(wheel)], check=True)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def run(home: Path, *command: str) -> str:
    """Runs away from the checkout, without its environment."""
    done = subprocess.run(
        [str(home / "bin" / command[0]), *command[1:]],
        cwd=home,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_that_git_knows_is_in_the_wheel(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\n")
    tracked = {name for name in listed if name and (ROOT / name).exists()}
    assert tracked - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_the_wheel_holds_nothing_but_the_five_packages(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_command_runs_outside_the_checkout(installed: Path) -> None:
    assert "usage: touchpoint" in run(installed, "touchpoint", "--help")


def test_the_data_files_are_found_outside_the_checkout(installed: Path) -> None:
    seen = json.loads(run(installed, "python", "-c", LOOK))
    assert all(Path(place).is_relative_to(installed) for place in seen["places"]), seen["places"]
    assert seen["port"] == 8080
    assert seen["english"] == seen["german"] != []
    assert {"car.yaml", "washing_machine.yaml"} <= set(seen["signals"])
    assert seen["rules"]


def test_the_shipped_rules_are_sound_outside_the_checkout(installed: Path) -> None:
    assert "all sound" in run(installed, "touchpoint", "rules", "check")


def test_locks_hold_versions_and_hashes_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-build.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text, name
        assert "--index" not in text, name
        for entry in text.replace("\\\n", " ").splitlines():
            assert "==" in entry, f"{name}: {entry[:60]}"
            assert "--hash=sha256:" in entry, f"{name}: {entry[:60]}"


def test_the_dev_lock_agrees_with_the_runtime_lock() -> None:
    def pins(name: str) -> set[str]:
        return {line.split(" ")[0] for line in (ROOT / name).read_text().splitlines() if line[:1].isalnum()}

    assert pins("requirements.lock") | pins("requirements-build.lock") <= pins("requirements-dev.lock")

"""The machine and the packages that made something, in words."""

import platform
import re
from importlib.metadata import version
from pathlib import Path

import joblib

PACKAGES = ("keras", "numpy", "tensorflow")


def describe_environment() -> list[str]:
    """Return processor, cores, system, Python and the packages that decide on results, one a string."""
    return [
        _processor(),
        f"{joblib.cpu_count()} cores",
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in PACKAGES),
    ]


def _processor() -> str:
    try:
        models = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        models = []
    return models[0] if models else platform.processor() or "unknown processor"

"""The packages that pip installs; pyproject.toml holds all else.

cli/ and pipelines/ become unetbio.cli and unetbio.pipelines. What ``unetbio new`` copies, folders without code, lies
beside the rules.
"""

from setuptools import find_packages, setup

MOVED = {
    "unetbio.cli": "cli",
    "unetbio.pipelines": "pipelines",
    "unetbio.pipelines.config": "config",
    "unetbio.pipelines.profiles": "profiles",
}

setup(packages=[*find_packages(include=["unetbio", "unetbio.*"]), *MOVED], package_dir={"unetbio": "unetbio", **MOVED})

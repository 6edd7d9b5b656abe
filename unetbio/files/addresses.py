"""Addresses of files on other machines, and how messages show them."""

import os
import re

from unetbio.errors import UsageError

__all__ = ["describe_download", "is_remote", "public_address", "refuse_remote"]

_CURL, _GSUTIL, _AZCOPY, _SFTP = "curl -O ADDRESS", "gsutil cp -r ADDRESS .", "azcopy copy ADDRESS .", "sftp ADDRESS"

_DOWNLOADS = {
    **dict.fromkeys(("http", "https", "ftp"), _CURL),
    "s3": "aws s3 cp --recursive ADDRESS .",
    **dict.fromkeys(("gs", "gcs"), _GSUTIL),
    **dict.fromkeys(("az", "abfs", "abfss"), _AZCOPY),
    **dict.fromkeys(("sftp", "ssh"), _SFTP),
}
"""Programs that download, by the first part of an address."""

# Name and password before the host; as a path an address has one slash.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/{1,2})(?!/)[^/\s]*@")


def refuse_remote(path: str | os.PathLike[str]) -> None:
    """Refuse an address such as ``https://...`` or ``s3://...``, also as a path, which has one slash.

    Raises
    ------
    UsageError
        Saying how to get the file.
    """
    if is_remote(path):
        raise UsageError(describe_download(os.fspath(path)))


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the address of a known storage, also as a path, which has one slash."""
    scheme, colon, rest = os.fspath(path).partition(":")
    return bool(colon) and rest.startswith("/") and scheme.lower() in _DOWNLOADS


def public_address(address: str) -> str:
    """An address without the parts that can hold a password or a signature."""
    return _USER.sub(r"\1", address.partition("?")[0])


def describe_download(address: str) -> str:
    """Say how to get a file that is not on this machine."""
    address = public_address(address)
    tool = _DOWNLOADS.get(address.partition(":")[0].lower(), _CURL)
    return (
        f"{address} is not on this machine: download it first (such as {tool}), or mount the storage as a folder; "
        'unetbio segment, check and train fetch images with pip install "unetbio[remote]" (and s3fs for s3://, gcsfs '
        "for gs://)"
    )

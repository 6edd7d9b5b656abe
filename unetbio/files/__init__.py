"""Files that are whole or absent: atomic writes, hashes, locks."""

from unetbio.files.addresses import describe_download, is_remote, public_address, refuse_remote
from unetbio.files.failures import stopped, stopping, system_error
from unetbio.files.folders import cached_real_path, list_contents, paths_below, real_path, walk
from unetbio.files.hashing import Stamp, sha256_file, sha256_path, stamp
from unetbio.files.locks import lock
from unetbio.files.reading import find_special, naming, open_regular, read_bytes
from unetbio.files.writing import (
    TEMPORARY,
    atomic_folder,
    atomic_path,
    remove_path,
    remove_stale,
    replace_path,
    utf8_text,
    write_bytes,
    write_json,
    write_text,
)

__all__ = [
    "TEMPORARY",
    "Stamp",
    "atomic_folder",
    "atomic_path",
    "cached_real_path",
    "describe_download",
    "find_special",
    "is_remote",
    "list_contents",
    "lock",
    "naming",
    "open_regular",
    "paths_below",
    "public_address",
    "read_bytes",
    "real_path",
    "refuse_remote",
    "remove_path",
    "remove_stale",
    "replace_path",
    "sha256_file",
    "sha256_path",
    "stamp",
    "stopped",
    "stopping",
    "system_error",
    "utf8_text",
    "walk",
    "write_bytes",
    "write_json",
    "write_text",
]

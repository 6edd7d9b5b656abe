"""Sign an output folder: a manifest of the hashes of all its files, and the signature of an SSH key.

The manifest is what ``sha256sum`` prints; the signature has the format of ``ssh-keygen -Y sign -n unetbio`` (OpenSSH,
PROTOCOL.sshsig). So both can be checked without this program. Inputs and models are covered by their hashes in the
provenances.
"""

import base64
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetbio.errors import UsageError
from unetbio.files import list_contents, read_bytes, sha256_file, write_bytes
from unetbio.output_layout import MANIFEST, OVERLAYS, OVERLAYS_LINK, SIGNATURE, is_lock
from unetbio.results.entries import check_folder
from unetbio.results.journal import hold_output
from unetbio.results.verification import Finding

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["check_signature", "sign_folder"]

NAMESPACE = b"unetbio"

_MAGIC, _VERSION, _HASH, _KEY_TYPE = b"SSHSIG", (1).to_bytes(4, "big"), b"sha512", b"ssh-ed25519"
_SIGNATURE_BYTES = 64
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_KEY_LIMIT = 1 << 20
_LINE = re.compile(rb"\\?([0-9a-f]{64})  (.+)")


def sign_folder(out: Path, key: Path, workers: int) -> int:
    """Write the manifest of an output folder and its signature.

    Parameters
    ----------
    out : pathlib.Path
        Output folder of a run.
    key : pathlib.Path
        Private ed25519 key in the format of OpenSSH.
    workers : int
        Threads that read and hash.

    Returns
    -------
    int
        Number of files in the manifest.

    Raises
    ------
    UsageError
        When there is no such folder or key, or the package cryptography is missing.
    EnvironmentStoppedError
        When a run is using the folder, or it cannot be written to.
    """
    private = _private_key(key)
    check_folder(out)
    with hold_output(out, None):
        hashes = _hashes(out, workers)
        if missing := [out / os.fsdecode(name) for name, digest in hashes.items() if digest is None]:
            raise UsageError(f"{missing[0]} {_problem_of_file(missing[0])}, so it cannot be signed: remove it")
        manifest = b"".join(_line(name, digest) for name, digest in hashes.items() if digest)
        signed = _prefix(private.public_key()) + private.sign(_signed_data(manifest))
        # Without the old signature first: a new manifest is never beside it.
        (out / SIGNATURE).unlink(missing_ok=True)
        write_bytes(out / MANIFEST, manifest)
        write_bytes(out / SIGNATURE, _armoured(signed))
    return len(hashes)


def check_signature(out: Path, key: Path, workers: int) -> list[Finding]:
    """Compare all files of an output folder with its signed manifest.

    Parameters
    ----------
    out : pathlib.Path
        Output folder that `sign_folder` signed.
    key : pathlib.Path
        File of public ed25519 keys, one a line; the signature has to be of one of them.
    workers : int
        Threads that read and hash.

    Returns
    -------
    list of Finding
        Empty when the signature is right and no file was changed, removed or added.

    Raises
    ------
    UsageError
        When the file holds no such key, or the package cryptography is missing.
    """
    keys = _public_keys(key)
    try:
        manifest, signature = read_bytes(out / MANIFEST), read_bytes(out / SIGNATURE)
    except OSError as error:
        return [_finding(MANIFEST, f"the folder is not signed ({error.strerror}): unetbio sign signs it")]
    if problem := _problem_of(manifest, signature, keys):
        return [_finding(SIGNATURE, f"{problem}: trust no file of this folder")]
    return list(_changes(out, _read_manifest(manifest), _hashes(out, workers)))


def _changes(out: Path, signed: dict[bytes, str], found: dict[bytes, str | None]) -> Iterator[Finding]:
    for name in sorted(signed.keys() | found.keys()):
        if name not in found:
            yield _finding(name, "the file is missing; it was signed")
        elif found[name] is None:
            yield _finding(name, f"it {_problem_of_file(out / os.fsdecode(name))}: the signature does not cover it")
        elif name not in signed:
            yield _finding(name, "the file was added after the folder was signed")
        elif found[name] != signed[name]:
            yield _finding(name, "the file was changed after the folder was signed (sha256 differs)")


def _finding(name: str | bytes, message: str) -> Finding:
    return Finding(os.fsdecode(name), "signature", message)


# The manifest -------------------------------------------------------------------------------------------------------


def _hashes(out: Path, workers: int) -> dict[bytes, str | None]:
    """Hash of each file below the folder, None where it cannot be read and of links to folders.

    Without the manifest itself, the empty locks that the next run makes, and the link of the workflow to the pictures,
    which are signed: no line of ``sha256sum`` holds a link to a folder.
    """
    files = [(os.fsencode(name), file) for name, file in list_contents(out, everything=True) if _is_signed(name, file)]
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip((name for name, _ in files), pool.map(_hash_of, (file for _, file in files)), strict=True))


def _is_signed(name: str, file: Path) -> bool:
    if name == OVERLAYS_LINK and file.is_symlink():
        return os.readlink(file) != OVERLAYS  # noqa: PTH115 -- as it is written
    return name not in (MANIFEST, SIGNATURE) and not ("/" not in name and is_lock(name) and _is_empty(file))


def _is_empty(file: Path) -> bool:
    found = file.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _problem_of_file(file: Path) -> str:
    return "is a link to a folder" if file.is_dir() else "cannot be read"


def _hash_of(file: Path) -> str | None:
    try:
        return sha256_file(file)
    except OSError:
        return None


_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}


def _line(name: bytes, digest: str) -> bytes:
    r"""A line of ``sha256sum``, which begins with ``\`` where the name has a line end or ``\``."""
    escaped = re.sub(rb"[\\\n\r]", lambda found: _ESCAPES[found[0]], name)
    return (b"\\" if escaped != name else b"") + digest.encode() + b"  " + escaped + b"\n"


def _read_manifest(manifest: bytes) -> dict[bytes, str]:
    plain = {escape: text for text, escape in _ESCAPES.items()}
    found = {}
    for line in manifest.split(b"\n"):
        if match := _LINE.fullmatch(line):
            name = match[2]
            if line.startswith(b"\\"):
                name = re.sub(rb"\\[\\nr]", lambda escape: plain[escape[0]], name)
            found[name] = match[1].decode()
    return found


# The signature ------------------------------------------------------------------------------------------------------


def _field(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _signed_data(manifest: bytes) -> bytes:
    return _MAGIC + b"".join(map(_field, (NAMESPACE, b"", _HASH, hashlib.sha512(manifest).digest())))


def _prefix(key: "Ed25519PublicKey") -> bytes:
    """A whole signature file by this key but the last 64 bytes, which are the signature."""
    public = _field(_field(_KEY_TYPE) + _field(key.public_bytes_raw()))
    signature = _field(_KEY_TYPE) + _SIGNATURE_BYTES.to_bytes(4, "big")
    length = (len(signature) + _SIGNATURE_BYTES).to_bytes(4, "big")
    return _MAGIC + _VERSION + public + b"".join(map(_field, (NAMESPACE, b"", _HASH))) + length + signature


def _armoured(signed: bytes) -> bytes:
    text = base64.b64encode(signed).decode()
    return "\n".join([_BEGIN, *(text[start : start + 70] for start in range(0, len(text), 70)), _END, ""]).encode()


def _problem_of(manifest: bytes, armoured: bytes, keys: "list[Ed25519PublicKey]") -> str:
    """Why this is no signature of the manifest by one of the keys; empty if it is one."""
    from cryptography.exceptions import InvalidSignature

    lines = armoured.decode("ascii", "replace").split()
    text = "".join(lines).removeprefix("".join(_BEGIN.split())).removesuffix("".join(_END.split()))
    try:
        signed = base64.b64decode(text, validate=True)
    except ValueError:
        return "the signature is damaged"
    by = [key for key in keys if signed[:-_SIGNATURE_BYTES] == _prefix(key)]
    if not by:
        return "the signature is by another key, or damaged"
    try:
        by[0].verify(signed[-_SIGNATURE_BYTES:], _signed_data(manifest))
    except InvalidSignature:
        return f"{MANIFEST} was changed after it was signed"
    return ""


# Keys ---------------------------------------------------------------------------------------------------------------


def _serialization() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise UsageError('signatures need a package: pip install "unetbio[sign]"') from error
    return serialization


def _private_key(path: Path) -> "Ed25519PrivateKey":
    from_ssh = _serialization().load_ssh_private_key
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    make = "ssh-keygen -t ed25519 -N '' -f KEY makes one"
    try:
        key = from_ssh(_key_file(path), None)
    except TypeError as error:
        raise UsageError(f"the key {path} has a passphrase: give a key without one ({make})") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not a private SSH key: {make}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"the key {path} is not of type ed25519: {make}")
    return key


def _public_keys(path: Path) -> "list[Ed25519PublicKey]":
    from_ssh = _serialization().load_ssh_public_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    lines = [line for line in _key_file(path).splitlines() if line.startswith(_KEY_TYPE + b" ")]
    try:
        keys = [key for key in map(from_ssh, lines) if isinstance(key, Ed25519PublicKey)]
    except ValueError as error:
        raise UsageError(f"{path} holds a damaged public key: copy it again") from error
    if not keys:
        raise UsageError(
            f"{path} holds no public ed25519 key, a line that begins with ssh-ed25519: ssh-keygen writes it to KEY.pub"
        )
    return keys


def _key_file(path: Path) -> bytes:
    try:
        return read_bytes(path, limit=_KEY_LIMIT)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error

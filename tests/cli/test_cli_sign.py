"""``unetbio sign`` and ``unetbio verify --key``: whatever changes after the signature is found."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import tifffile
from click.testing import CliRunner, Result
from tiny_model import field_of_squares

from unetbio.cli.main import main
from unetbio.files import sha256_file
from unetbio.output_layout import MANIFEST, SIGNATURE

serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")


def command(*line: object) -> Result:
    return CliRunner().invoke(main, [str(part) for part in line])


def write_key(path: Path, key: object = None) -> Path:
    key = key or ed25519.Ed25519PrivateKey.generate()
    coding, private, public = serialization.Encoding, serialization.PrivateFormat, serialization.PublicFormat
    path.write_bytes(key.private_bytes(coding.PEM, private.OpenSSH, serialization.NoEncryption()))
    path.chmod(0o600)
    line = key.public_key().public_bytes(coding.OpenSSH, public.OpenSSH)
    path.with_suffix(".pub").write_bytes(line + b" me@lab\n")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A finished output folder, and a key beside it."""
    root = tmp_path_factory.mktemp("finished")
    for name in "ab":
        (root / "images").mkdir(exist_ok=True)
        tifffile.imwrite(root / "images" / f"{name}.tif", field_of_squares(ord(name)), metadata=None)
    assert command("segment", root / "images", "-o", root / "out", "-m", tiny_model, "--workers", 1).exit_code == 0
    write_key(root / "key")
    return root


@pytest.fixture
def signed(finished: Path, tmp_path: Path) -> Path:
    """A signed copy of it: ``out``, ``key`` and ``key.pub``."""
    root = tmp_path / "signed"
    shutil.copytree(finished, root)
    result = command("sign", root / "out", "--key", root / "key")
    assert (result.exit_code, result.stderr) == (0, "")
    count = len((root / "out" / MANIFEST).read_bytes().splitlines())
    assert result.stdout == f"{count} files signed: {root / 'out' / MANIFEST}\n"
    return root


def verify(root: Path, key: str = "key.pub") -> list[tuple[str, str]]:
    """Name and message of each finding about the signature."""
    result = command("verify", root / "out", "--key", root / key, "--json", "--workers", 1)
    rows = [row for row in json.loads(result.stdout)["mismatches"] if row["kind"] == "signature"]
    assert result.exit_code == (3 if rows else 0)
    return [(row["output"], row["message"]) for row in rows]


def test_a_signed_folder_is_well(signed: Path) -> None:
    assert verify(signed) == []


def test_the_manifest_is_that_of_sha256sum(signed: Path) -> None:
    lines = dict(reversed(line.split("  ")) for line in (signed / "out" / MANIFEST).read_text().splitlines())
    assert {"run.jsonl", "summary.csv", "cells.parquet", "a_labels.ome.tif", "b_labels.json"} <= set(lines)
    assert all(sha256_file(signed / "out" / name) == digest for name, digest in lines.items())


def test_each_changed_file_is_found(signed: Path) -> None:
    for file in (path for path in (signed / "out").rglob("*") if path.is_file()):
        name, content = file.relative_to(signed / "out").as_posix(), file.read_bytes()
        if name in (MANIFEST, SIGNATURE, ".run.lock"):
            continue
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert verify(signed) == [(name, "the file was changed after the folder was signed (sha256 differs)")]
        file.write_bytes(content)
    assert verify(signed) == []


def test_removed_and_added_files_are_found(signed: Path) -> None:
    (signed / "out" / "index.html").unlink()
    (signed / "out" / "new\nfile.txt").touch()
    assert verify(signed) == [
        ("index.html", "the file is missing; it was signed"),
        ("new\nfile.txt", "the file was added after the folder was signed"),
    ]
    assert command("sign", signed / "out", "--key", signed / "key").exit_code == 0
    assert verify(signed) == []


def test_all_files_are_covered_but_empty_locks(signed: Path) -> None:
    out = signed / "out"
    for name in (".DS_Store", ".run.evil.lock", ".unetbio-x"):
        (out / name).write_bytes(b"1")
    (out / "overlays" / ".run.x.lock").touch()
    (out / ".run.1-of-2.lock").touch()
    added = [".DS_Store", ".run.evil.lock", ".unetbio-x", "overlays/.run.x.lock"]
    assert verify(signed) == [(name, "the file was added after the folder was signed") for name in added]
    assert command("sign", out, "--key", signed / "key").exit_code == 0
    assert verify(signed) == []


def test_links_to_folders_are_refused(signed: Path) -> None:
    link = signed / "out" / "plate1"
    link.symlink_to(signed / "images")
    assert verify(signed) == [("plate1", "it is a link to a folder: the signature does not cover it")]
    result = command("sign", signed / "out", "--key", signed / "key")
    assert (result.exit_code, f"{link} is a link to a folder, so it cannot be signed" in result.stderr) == (2, True)


def test_the_link_of_the_workflow_is_no_obstacle_while_it_leads_to_the_pictures(signed: Path) -> None:
    out = signed / "out"
    link = out / "overlays-for-report"
    link.symlink_to("overlays")
    assert verify(signed) == []
    assert command("sign", out, "--key", signed / "key").exit_code == 0
    assert (verify(signed), b"for-report" in (out / MANIFEST).read_bytes()) == ([], False)
    for target in ("../images", str(signed / "images"), "."):
        link.unlink()
        link.symlink_to(target)
        assert verify(signed) == [(link.name, "it is a link to a folder: the signature does not cover it")]
        assert command("sign", out, "--key", signed / "key").exit_code == 2
    link.unlink()
    link.mkdir()
    (link / "a.jpg").touch()
    assert verify(signed) == [(f"{link.name}/a.jpg", "the file was added after the folder was signed")]


def test_a_changed_manifest_is_found(signed: Path) -> None:
    manifest = signed / "out" / MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(b"summary", b"sammary"))
    assert verify(signed) == [(SIGNATURE, f"{MANIFEST} was changed after it was signed: trust no file of this folder")]


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN SSH SIGNATURE-----\n%%\n-----END SSH SIGNATURE-----\n", b"\xff"])
def test_a_damaged_signature_is_found(signed: Path, damage: bytes) -> None:
    (signed / "out" / SIGNATURE).write_bytes(damage)
    ((name, message),) = verify(signed)
    assert (name, message.endswith("damaged: trust no file of this folder")) == (SIGNATURE, True)


def test_a_signature_by_another_key_is_found(signed: Path) -> None:
    write_key(signed / "other")
    assert verify(signed, "other.pub") == [
        (SIGNATURE, "the signature is by another key, or damaged: trust no file of this folder")
    ]
    both = (signed / "other.pub").read_bytes() + b"# comment\n" + (signed / "key.pub").read_bytes()
    (signed / "both.pub").write_bytes(both)
    assert verify(signed, "both.pub") == []


def test_a_folder_without_a_signature_is_found(signed: Path) -> None:
    (signed / "out" / SIGNATURE).unlink()
    ((name, message),) = verify(signed)
    assert (name, "the folder is not signed" in message) == (MANIFEST, True)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
def test_openssh_checks_and_makes_the_same_signatures(signed: Path) -> None:
    manifest, signature = signed / "out" / MANIFEST, signed / "out" / SIGNATURE
    (signed / "allowed").write_bytes(b"me@lab " + (signed / "key.pub").read_bytes())
    check = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "me@lab", "-n", "unetbio", "-s", str(signature)]
    subprocess.run(check, input=manifest.read_bytes(), cwd=signed, check=True, capture_output=True)
    signature.unlink()
    make = ["ssh-keygen", "-Y", "sign", "-f", "key", "-n", "unetbio", str(manifest)]
    subprocess.run(make, cwd=signed, check=True, capture_output=True)
    assert verify(signed) == []


def test_keys_that_cannot_sign(signed: Path, tmp_path: Path) -> None:
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    write_key(tmp_path / "rsa", rsa.generate_private_key(65537, 1024))
    (tmp_path / "text").write_text("no key")
    messages = {"rsa": "is not of type ed25519", "text": "is not a private SSH key", "none": "cannot be read"}
    for name, message in messages.items():
        result = command("sign", signed / "out", "--key", tmp_path / name)
        assert (result.exit_code, message in result.stderr) == (2, True)
    result = command("verify", signed / "out", "--key", tmp_path / "text")
    assert (result.exit_code, "holds no public ed25519 key" in result.stderr) == (2, True)
    (tmp_path / "cut.pub").write_bytes(b"ssh-ed25519 AAAA\n")
    result = command("verify", signed / "out", "--key", tmp_path / "cut.pub")
    assert (result.exit_code, "damaged public key" in result.stderr) == (2, True)
    assert verify(signed) == []


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
def test_a_key_with_a_passphrase_is_refused(signed: Path) -> None:
    line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", "locked"]
    subprocess.run(line, cwd=signed, check=True, capture_output=True)
    result = command("sign", signed / "out", "--key", signed / "locked")
    assert (result.exit_code, "has a passphrase" in result.stderr) == (2, True)


def test_a_folder_that_is_none(signed: Path) -> None:
    result = command("sign", signed / "nothing", "--key", signed / "key")
    assert (result.exit_code, "is not a folder" in result.stderr) == (2, True)

"""fercore.data.tree: a folder and a zip file look the same."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from fercore.data.tree import natural_key, open_tree
from fercore.errors import FercoreError
from tests.data.trees import zip_folder

NOISE = ("__MACOSX/a/._1.png", ".DS_Store", "a/Thumbs.db", ".git/config", "a/.hidden.png")


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def test_folder_and_zip_list_and_read_alike(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", "a/img_10.png", "a/img_9.png", "b.txt", *NOISE)
    zipped = zip_folder(folder, tmp_path / "set.zip")
    for path in (folder, zipped):
        with open_tree(path) as tree:
            assert tree.names == ("a/img_9.png", "a/img_10.png", "b.txt")
            assert tree.read("a/img_10.png") == b"a/img_10.png"
            assert tree.sizes["b.txt"] == 5
            assert not tree.synthetic


def test_a_file_is_a_tree_of_one(tmp_path: Path) -> None:
    write(tmp_path, "one.csv", "two.csv")
    with open_tree(tmp_path / "one.csv") as tree:
        assert tree.names == ("one.csv",)
        assert tree.read("one.csv") == b"one.csv"
        assert not tree.synthetic
    write(tmp_path, "SYNTHETIC.txt")
    with open_tree(tmp_path / "one.csv") as tree:
        assert tree.synthetic


def test_the_marker_is_found_below_a_leading_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", "SYNTHETIC.txt", "a.png")
    for path in (tmp_path, zip_folder(folder, tmp_path / "x.zip", "set/")):
        with open_tree(path) as tree:
            assert tree.synthetic


def test_backslashes_in_a_zip_separate_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "win.zip", "w") as archive:
        archive.writestr("happy\\1.png", b"x")
    with open_tree(tmp_path / "win.zip") as tree:
        assert tree.names == ("happy/1.png",)
        assert tree.read("happy/1.png") == b"x"


def test_links_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "real", "1.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "happy").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "set")
    with open_tree(tmp_path / "set") as tree:
        assert tree.names == ("happy/1.png",)


def test_links_that_lead_nowhere_are_listed(tmp_path: Path) -> None:
    write(tmp_path, "1.png")
    (tmp_path / "2.png").symlink_to("absent.png")
    (tmp_path / "3.png").symlink_to("3.png")
    with open_tree(tmp_path) as tree:
        assert tree.names == ("1.png", "2.png", "3.png")
        for name in tree.names[1:]:
            with pytest.raises(OSError, match=name):
                tree.open(name)


def test_a_zip_whose_names_start_with_a_dot(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "dot.zip", "w") as archive:
        archive.writestr("./happy/1.png", b"x")
        archive.writestr("../outside.png", b"x")
    with open_tree(tmp_path / "dot.zip") as tree:
        assert tree.names == ("happy/1.png",)
        assert tree.read("happy/1.png") == b"x"


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    content = bytearray(
        zip_folder(write(tmp_path / "set", "a.png"), tmp_path / "x.zip").read_bytes()
    )
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag "encrypted" of the directory's entry
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(FercoreError, match=r"x\.zip: asks for a password; unpack it"):
        open_tree(tmp_path / "x.zip")


def test_a_tar_file_and_a_broken_zip_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "fer2013.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    with pytest.raises(FercoreError, match="is a tar file; unpack it"):
        open_tree(tmp_path / "fer2013.tar.gz")
    whole = zip_folder(write(tmp_path / "set", "a.png"), tmp_path / "set.zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FercoreError, match="not a complete zip file"):
        open_tree(tmp_path / "half.zip")
    entry = whole.index(b"PK\x01\x02")  # the central directory; bytes 6 and 7: version needed
    (tmp_path / "new.zip").write_bytes(whole[: entry + 6] + b"\xff\xff" + whole[entry + 8 :])
    with pytest.raises(FercoreError, match=r"cannot be read \(zip file version"):
        open_tree(tmp_path / "new.zip")


def test_natural_order() -> None:
    names = ["a10", "a9", "a09b", "10", "9", "a"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "a9", "a09b", "a10"]

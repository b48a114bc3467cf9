"""fercore.data: what a dataset is called, which format it has, and how loading fails."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fercore.data import FORMATS, DatasetSpec, load, parse_spec
from fercore.errors import FercoreError
from tests.data.trees import read, write_images, zip_folder


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("jaffe=/data/jaffe", DatasetSpec("jaffe", "jaffe", Path("/data/jaffe"))),
        ("mine=folder:faces", DatasetSpec("mine", "folder", Path("faces"))),
        ("fer2013=ckplus:/x", DatasetSpec("fer2013", "ckplus", Path("/x"))),
        ("jaffe=C:\\faces", DatasetSpec("jaffe", "jaffe", Path("C:\\faces"))),
        ("mug=/data/a:b/mug", DatasetSpec("mug", "mug", Path("/data/a:b/mug"))),
        ("a-1.b+=folder:/x=y", DatasetSpec("a-1.b+", "folder", Path("/x=y"))),
        ("jaffe=~/j", DatasetSpec("jaffe", "jaffe", Path.home() / "j")),
    ],
)
def test_specs(text: str, spec: DatasetSpec) -> None:
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jaffe", "NAME=PATH or NAME=FORMAT:PATH, such as jaffe=JAFFE or mine=folder:my-"),
        ("mine=/x", "for another name write NAME=FORMAT:PATH, such as mine=folder:my-faces"),
        ("jaffe=", "write a dataset as NAME=PATH"),
        ("=/x", "write a dataset as NAME=PATH"),
        ("mine=folder:", "a path must follow"),
        ("../a=folder:/x", "becomes a file's name"),
        ("fer2031=/x", "'fer2031' is not a dataset format; did you mean 'fer2013'"),
        ("afectnet=/x", "'afectnet' is not a dataset format; did you mean 'affectnet'"),
        ("rafb=/x", "'rafb' is not a dataset format; did you mean 'rafdb'"),
        ("mine=jafe:/x", "'jafe' is not a dataset format; did you mean 'jaffe'"),
        (
            "zzz=/x",
            "the formats are fer2013, ferplus, jaffe, tfeid, mug, ckplus, kdef, rafdb, affectnet, "
            "rafd, folder",
        ),
        ("zzz=C:\\x", "'zzz' is not a dataset format"),
    ],
)
def test_bad_specs(text: str, message: str) -> None:
    with pytest.raises(FercoreError, match=message.replace("\\", "\\\\")):
        parse_spec(text)


def test_importing_the_registry_leaves_numpy_alone() -> None:
    code = "import sys, fercore.data; assert not {'numpy', 'PIL'} & set(sys.modules)"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.parametrize("format", FORMATS)
def test_missing_and_empty_paths(format: str, tmp_path: Path) -> None:
    with pytest.raises(FercoreError, match="no such file or folder"):
        read(format, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden").touch()
    with pytest.raises(FercoreError, match="holds no files"):
        read(format, tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.md").touch()
    with pytest.raises(FercoreError, match=f"no {format} images; expected"):
        read(format, tmp_path / "other")


def test_images_that_lie_in_no_class_folder_are_counted(tmp_path: Path) -> None:
    """Their classes may stand in their names, which nothing here reads."""
    for name in ("anna_happy.jpg", "more/bob_sad.png", "readme.md"):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(FercoreError, match="holds 2 images elsewhere: make a folder for each cl"):
        read("folder", tmp_path / "mine")


@pytest.mark.parametrize(
    ("format", "name", "likely"),
    [
        ("jaffe", "anger/S010_004_00000017.png", "ckplus"),
        ("ckplus", "KA.AN1.39.tiff", "jaffe"),
        ("mug", "train/angry/Training_12.jpg", "fer2013"),
        ("fer2013", "dfh_anger_x/f01_a_ag.jpg", "tfeid"),
        ("jaffe", "001/anger/take000/img_0000.jpg", "mug"),
        ("mug", "anger/me.jpg", "folder"),
        ("jaffe", "AF01/AF01ANS.JPG", "kdef"),
        ("kdef", "Image/aligned/train_00001_aligned.jpg", "rafdb"),
        ("rafdb", "Rafd090_28_Caucasian_male_angry_frontal.jpg", "rafd"),
    ],
)
def test_another_format_is_named(format: str, name: str, likely: str, tmp_path: Path) -> None:
    write_images(tmp_path, name)
    with pytest.raises(FercoreError, match=f"did you mean the format '{likely}'"):
        read(format, tmp_path)


def test_a_zip_inside_a_folder_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "ck", "anger/S010_004_00000017.png")
    (tmp_path / "up").mkdir()
    zip_folder(tmp_path / "ck", tmp_path / "up" / "ck.zip")
    with pytest.raises(FercoreError, match=r"give the zip file itself: .*up/ck\.zip"):
        read("ckplus", tmp_path / "up")


def test_one_class_alone_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, "happy/1.png", "happy/2.png")
    with pytest.raises(FercoreError, match="every image is 'happy'"):
        read("folder", tmp_path)


def test_synthetic_is_read_from_the_marker(tmp_path: Path) -> None:
    write_images(tmp_path, "happy/1.png", "sad/2.png")
    spec = DatasetSpec("mine", "folder", tmp_path)
    assert not load(spec, cache=False).synthetic
    (tmp_path / "SYNTHETIC.txt").touch()
    dataset = load(spec, cache=False)
    assert dataset.synthetic
    assert (dataset.name, dataset.format) == ("mine", "folder")


def test_a_zip_in_a_zip_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("inner.zip", b"x")
    with pytest.raises(FercoreError, match=r"it holds the zip file inner\.zip: unpack it"):
        load(DatasetSpec("x", "jaffe", tmp_path / "outer.zip"))


def test_options_have_the_types_that_the_loader_declares(tmp_path: Path) -> None:
    write_images(tmp_path, "happy/1.png", "sad/2.png")
    spec = DatasetSpec("mine", "folder", tmp_path)
    with pytest.raises(
        FercoreError, match=r"mine \[options\]: subject: expected str \| null, got int"
    ):
        load(spec, options={"subject": 3})
    with pytest.raises(FercoreError, match=r"there is no setting 'subjct'; did you mean 'subject'"):
        load(spec, options={"subjct": "x"})

"""fercore.data.images: decoding, framing, fingerprints, and files that cannot be decoded."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fercore.data import images
from fercore.data.images import WHOLE, Crop
from fercore.errors import FercoreError
from tests.data.trees import pixels, read, write_image, write_images, zip_folder


def load_one(path: Path, crop: Crop | None = None) -> np.ndarray:
    """The first image of a set that has one more, so that it has two classes."""
    write_image(path / "sad" / "other.png", 99)
    return read("folder", path, crop).images[0]


def test_a_48x48_image_arrives_untouched(tmp_path: Path) -> None:
    write_image(tmp_path / "happy" / "1.png", seed=5)
    np.testing.assert_array_equal(load_one(tmp_path), pixels(5))


def test_shrinking_takes_the_mean_of_an_area(tmp_path: Path) -> None:
    write_image(tmp_path / "happy" / "1.png", 5, (144, 96))
    means = pixels(5, (144, 96)).astype(float).reshape(48, 2, 48, 3).mean((1, 3))
    assert np.abs(load_one(tmp_path) - means).max() <= 1


def test_enlarging_interpolates(tmp_path: Path) -> None:
    (tmp_path / "happy").mkdir()
    ramp = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (24, 1))
    Image.fromarray(ramp).save(tmp_path / "happy" / "1.png")
    assert len(np.unique(load_one(tmp_path)[0])) == 48


def test_a_crop_is_in_fractions_of_the_image(tmp_path: Path) -> None:
    write_image(tmp_path / "happy" / "1.png", 5, (192, 192))
    cropped = load_one(tmp_path, Crop(0.25, 0.5, 0.5, 0.75))
    np.testing.assert_array_equal(cropped, pixels(5, (192, 192))[96:144, 48:96])


@pytest.mark.parametrize("box", [(0.5, 0, 0.5, 1), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, 1, 1, 0)])
def test_bad_crops(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(FercoreError, match="give left < right"):
        Crop(*box)
    with pytest.raises(FercoreError, match="give left < right"):
        Crop(float("nan"), 0, 1, 1)


def test_colour_becomes_luma(tmp_path: Path) -> None:
    (tmp_path / "happy").mkdir()
    for i, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        Image.new("RGB", (48, 48), colour).save(tmp_path / "happy" / f"{i}.png")
    write_image(tmp_path / "sad" / "other.png")
    assert read("folder", tmp_path).images[:3, 0, 0].tolist() == [76, 150, 29]


def test_an_image_is_turned_upright(tmp_path: Path) -> None:
    (tmp_path / "happy").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels(5)).save(tmp_path / "happy" / "1.png", exif=exif)
    np.testing.assert_array_equal(load_one(tmp_path), pixels(5)[::-1, ::-1])


def test_the_fingerprint_is_of_pixels_not_of_files(tmp_path: Path) -> None:
    write_image(tmp_path / "happy" / "1.png", 5, (60, 50))
    write_image(tmp_path / "happy" / "2.bmp", 5, (60, 50))
    write_image(tmp_path / "sad" / "3.png", 5, (50, 60))  # the same bytes in another shape
    for crop in (WHOLE, Crop(0, 0, 0.5, 0.5)):
        sha256 = read("folder", tmp_path, crop).sha256
        content = struct.pack("<II", 60, 50) + pixels(5, (60, 50)).tobytes()
        assert sha256[0] == sha256[1] == hashlib.sha256(content).hexdigest()
        assert sha256[2] != sha256[0]


def huge_png(side: int) -> bytes:
    """A valid header of a ``side`` x ``side`` gray PNG, without its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("error")
def test_images_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", "happy/1.png", "sad/2.png")
    jpeg = io.BytesIO()
    Image.fromarray(pixels(7, (200, 200))).save(jpeg, "JPEG")
    (folder / "happy" / "cut.jpg").write_bytes(jpeg.getvalue()[:2000])
    (folder / "happy" / "empty.png").touch()
    (folder / "happy" / "huge.png").write_bytes(huge_png(7_100))
    (folder / "happy" / "large.png").write_bytes(huge_png(10_000))  # Pillow would warn
    (folder / "happy" / "vast.png").write_bytes(huge_png(20_000))  # Pillow would raise
    (folder / "happy" / "text.png").write_text("not an image")
    Image.fromarray(pixels(1).astype(np.uint16) * 200).save(folder / "happy" / "deep.png")
    for path in (folder, zip_folder(folder, tmp_path / "set.zip")):
        dataset = read("folder", path)
        reasons = {entry.file: entry.reason for entry in dataset.skipped}
        assert dataset.files == ("happy/1.png", "sad/2.png")
        assert list(reasons) == [
            "happy/cut.jpg",
            *(f"happy/{name}.png" for name in ("deep", "empty", "huge", "large", "text", "vast")),
        ]
        assert "truncated" in reasons["happy/cut.jpg"]
        assert "8 bits" in reasons["happy/deep.png"]
        assert reasons["happy/huge.png"] == "7100x7100 pixels are more than 50 million"
        assert reasons["happy/large.png"] == "10000x10000 pixels are more than 50 million"
        assert "exceeds limit" in reasons["happy/vast.png"]
        assert reasons["happy/text.png"] == "not an image that Pillow can read"
        assert reasons["happy/empty.png"] == "not an image that Pillow can read"


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, "happy/1.png", "sad/2.png", "sad/3.png")
    with (tmp_path / "sad" / "2.png").open("ab") as file:
        file.write(bytes(10_000))
    monkeypatch.setattr(images, "FILE_LIMIT", 10_000)
    dataset = read("folder", tmp_path)
    assert dataset.files == ("happy/1.png", "sad/3.png")
    assert dataset.skipped[0].reason.startswith("file larger than")


def test_damage_inside_a_zip_is_listed(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", "happy/1.png", "happy/2.png", "sad/3.png")
    path = zip_folder(folder, tmp_path / "set.zip")
    content = bytearray(path.read_bytes())
    at = content.index((folder / "happy" / "2.png").read_bytes()) + 100
    content[at] ^= 0xFF
    path.write_bytes(content)
    dataset = read("folder", path)
    assert dataset.files == ("happy/1.png", "sad/3.png")
    assert [entry.file for entry in dataset.skipped] == ["happy/2.png"]
    assert "CRC" in dataset.skipped[0].reason


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "happy").mkdir()
    (tmp_path / "happy" / "1.png").touch()
    with pytest.raises(FercoreError, match=r"no usable folder image; first fault: happy/1\.png"):
        read("folder", tmp_path)


def test_only_contempt_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, "contempt/1.png")
    with pytest.raises(FercoreError, match="1 image of 'contempt' left out"):
        read("folder", tmp_path)


def test_rows_keep_their_order_over_many_batches(tmp_path: Path) -> None:
    names = [f"{word}/{i}.png" for word in ("happy", "sad") for i in range(100)]
    dataset = read("folder", write_images(tmp_path, *names))
    assert list(dataset.files) == names
    expected = np.stack([pixels(seed) for seed in range(len(names))])
    np.testing.assert_array_equal(dataset.images, expected)
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int32

"""One picture's bytes become pixels as the schema says, or are refused by name."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from accord_common import pictures
from accord_common.errors import AccordError
from accord_common.image_schema import ImageSchema
from accord_common.schema_file import from_document

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOURS = np.stack([GREY, GREY[::-1], GREY.T.reshape(6, 8)], axis=2)


def schema(**changes: object) -> ImageSchema:
    made = from_document(
        {
            "name": "chest",
            "kind": "images",
            "height": 6,
            "width": 8,
            "channels": 1,
            "target": {"type": "binary"},
            **changes,
        }
    )
    assert isinstance(made, ImageSchema)
    return made


def png(
    pixels: NDArray[Any], mode: str | None = None, format_: str = "PNG", **options: Any
) -> bytes:
    image, out = Image.fromarray(pixels), io.BytesIO()
    (image if mode is None else image.convert(mode)).save(out, format_, **options)
    return out.getvalue()


def test_pixels_are_as_they_are_stored() -> None:
    assert pictures.decode(png(GREY), "a.png", schema()).tolist() == [GREY.tolist()]
    found = pictures.decode(png(COLOURS), "a.png", schema(channels=3))
    assert np.array_equal(found, COLOURS.transpose(2, 0, 1)) and found.dtype == np.uint8
    assert np.array_equal(
        pictures.decode(png(GREY), "a.png", schema(channels=3)), np.stack([GREY] * 3)
    )
    bits = pictures.decode(png(GREY, "1"), "a.png", schema())
    assert set(np.unique(bits)) == {0, 255}


def test_colours_become_luma_and_palettes_what_they_stand_for() -> None:
    luma = (COLOURS @ [0.299, 0.587, 0.114]).round()
    found = pictures.decode(png(COLOURS), "a.png", schema())
    assert np.abs(found[0] - luma).max() <= 1
    few = np.repeat(np.arange(6, dtype=np.uint8)[:, None] * 50, 8, axis=1)
    assert np.array_equal(pictures.decode(png(few, "P"), "a.png", schema())[0], few)


def test_alpha_and_exif_rotation_count_for_nothing() -> None:
    clear = np.dstack([COLOURS, np.zeros((6, 8), np.uint8)])
    found = pictures.decode(png(clear), "a.png", schema(channels=3))
    assert np.array_equal(found, COLOURS.transpose(2, 0, 1))
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: turn by 90 degrees
    for format_ in ("PNG", "JPEG"):
        marked = pictures.decode(png(GREY, format_=format_, exif=turned), "a", schema())
        assert np.array_equal(marked, pictures.decode(png(GREY, format_=format_), "a", schema()))


def test_another_size_is_refused_or_stretched() -> None:
    large = np.repeat(np.repeat(GREY, 3, axis=0), 2, axis=1)  # 18 x 16
    with pytest.raises(AccordError, match=r"wrong-size\] scan.png has 16 x 18 .* 8 x 6"):
        pictures.decode(png(large), "scan.png", schema())
    found = pictures.decode(png(np.full((18, 16), 7, np.uint8)), "a", schema(resize="stretch"))
    assert found.shape == (1, 6, 8) and (found == 7).all()
    near = pictures.decode(png(large), "a", schema(resize="stretch"))
    assert np.abs(near[0].astype(int) - GREY).max() <= 25


def bomb(width: int, height: int) -> bytes:
    """A PNG that announces so many pixels, and holds none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    empty = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + empty


@pytest.mark.parametrize("side", [8_193, 10_000, 50_000])
def test_more_pixels_than_the_bound_are_refused_before_they_are_decoded(side: int) -> None:
    for resize in ("stretch", "refuse"):
        with pytest.raises(AccordError, match=r"picture-too-large\] a.png"):
            pictures.decode(bomb(side, side), "a.png", schema(resize=resize))


def refused(data: bytes) -> str:
    with pytest.raises(AccordError) as caught:
        pictures.decode(data, "x.png", schema())
    assert caught.value.message.startswith("x.png") and caught.value.hint
    return caught.value.code


def test_what_cannot_be_taken_as_8_bits_grey_or_rgb_is_refused() -> None:
    assert refused(png(GREY.astype(np.uint16) * 200)) == "unsupported-picture"
    assert refused(png(COLOURS, "CMYK", "JPEG")) == "unsupported-picture"
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]
    assert refused(png(GREY, save_all=True, append_images=frames)) == "unsupported-picture"
    head = bytearray(bomb(8, 6))
    head[24:26] = 16, 2  # 16 bits a channel, RGB: Pillow would keep the upper half
    head[29:33] = struct.pack(">I", zlib.crc32(head[12:29]))
    assert refused(bytes(head)) == "unsupported-picture"


def test_a_broken_file_is_refused() -> None:
    whole = png(GREY)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for data in (b"", b"GIF89a", whole[:-30], whole[:40], bytes(flipped), bomb(8, 6)):
        assert refused(data) == "broken-picture"
    assert refused(png(GREY, format_="GIF")) == "broken-picture"  # not one of the two formats
    assert refused(png(GREY, format_="JPEG")[:-30]) == "broken-picture"

"""The look for text: what it sees and what it does not call text is drawn here by a known rule."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from neurosym.data.burned_in import burned_in
from neurosym.data.phantom import PhantomConfig, phantom_film

SIZE = 512
PLACES = {"top": (150, 8), "bottom": (150, SIZE - 40), "left": (4, 240), "right": (SIZE - 72, 240)}


def film(index: int = 0) -> np.ndarray:
    return phantom_film(index, PhantomConfig(size=SIZE)).image


def written(image: np.ndarray, text: str, at: tuple[int, int], size: int, shade: int) -> np.ndarray:
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text(at, text, fill=shade, font=ImageFont.load_default(size=size))
    return np.asarray(picture)


@pytest.mark.parametrize("index", range(12))
def test_a_film_without_text_has_none(index: int) -> None:
    assert burned_in(film(index)).borders == ()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("size", "shade"), [(10, 255), (14, 230), (20, 255)])
def test_a_name_in_bright_letters_is_seen_at_the_border_where_it_stands(place: str, size: int, shade: int) -> None:
    text = "DOE\nJANE\nP-4711" if place in ("left", "right") else "DOE JANE 02.01.1960"
    assert place in burned_in(written(np.minimum(film(), 120), text, PLACES[place], size, shade)).borders


def test_dark_letters_on_a_bright_film_are_seen_too() -> None:
    bright = np.maximum(film(), 150)
    assert burned_in(written(bright, "Doe, Jane 1960", PLACES["top"], 16, 0)).borders == ("top",)


def test_letters_are_seen_in_colour_and_on_a_film_of_many_pixels() -> None:
    image = written(np.full((1500, 2000), 40, np.uint8), "DOE^JANE", (1500, 30), 40, 255)
    assert burned_in(np.stack([image] * 3, -1)).borders == ("top",)


def test_a_side_marker_is_no_text() -> None:
    assert burned_in(written(film(), "R", (12, 12), 40, 255)).borders == ()
    assert burned_in(written(film(), "AP", (12, 12), 24, 255)).borders == ()


def test_grain_is_no_text() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    assert burned_in(grain).borders == ()


def test_what_the_header_says_counts_beside_what_is_seen() -> None:
    dataset = pytest.importorskip("pydicom").Dataset()
    assert (burned_in(film(), dataset).tag, str(burned_in(film(), dataset))) == ("", "")
    dataset.BurnedInAnnotation = "YES"
    assert str(burned_in(film(), dataset)) == "its header says so (BurnedInAnnotation YES)"
    dataset.BurnedInAnnotation = "NO"
    named = written(np.minimum(film(), 120), "DOE JANE 1960", PLACES["bottom"], 16, 255)
    assert str(burned_in(named, dataset)) == "something like text at the bottom"

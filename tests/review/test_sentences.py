from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from neurosym.errors import ConfigError
from neurosym.knowledge import Knowledge
from neurosym.records import Box, Detection, Scene
from neurosym.review.findings import Findings
from neurosym.review.sentences import DEFAULT, load_templates, sentences_of


def spoilt(folder: Path, **changes: object) -> Path:
    value = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    for key, change in changes.items():
        value[key] = {**value[key], **change} if isinstance(change, dict) else change
    path = folder / "words.yaml"
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentences": {"absent": "No {labell}."}}, "sentences.absent: {labell} is not known; did you mean 'label'?"),
        ({"sentences": {"abzent": "x"}}, "sentences.abzent: unknown template; did you mean 'absent'?"),
        ({"sentences": {"absent": 3}}, "sentences.absent: expected text, found 3"),
        ({"sentences": {"absent": "No {label"}}, "sentences.absent: expected '}' before end of string"),
        ({"places": {"peripheral": "at the {rim}"}}, "places.peripheral: {rim} is not known; nothing is filled in"),
        ({"certainty": [{"least": 0.5, "word": "likely"}]}, "no word for a probability of 0; add a line with"),
        ({"certainty": [{"least": 2, "word": "likely"}]}, "certainty: expected a list of {least: number from 0 to 1"),
        ({"list_at_most": "many"}, "list_at_most: expected a whole number from 0, found 'many'"),
        ({"quantities": {"x": {"part": "heart"}}}, "quantities.x: expected label, part (a class) and whole"),
        ({"sentence": {}}, "unknown key 'sentence'; did you mean 'sentences'?"),
    ],
)
def test_a_mistake_in_the_templates_is_told_with_its_place(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "words.yaml"
    value = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    for key, change in changes.items():
        value[key] = {**value[key], **change} if isinstance(change, dict) and key in value else change
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_templates(path)
    assert message in str(error.value)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_templates(spoilt(tmp_path, list_at_most=-1, relations={"near": None}, headings={"film": "{x}"}))
    assert len(error.value.problems) == 3


def test_a_file_that_is_missing_or_no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: [1\nb: 2")
    with pytest.raises(ConfigError, match=r"x\.yaml:2:2: not YAML"):
        load_templates(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_templates(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("probability", "word"), [(1, "evident"), (0.9, "evident"), (0.899, "probable"), (0, "unlikely")]
)
def test_a_probability_has_the_word_of_its_band(probability: float, word: str) -> None:
    assert load_templates().certain(probability) == word


def test_sentences_follow_the_users_own_templates(tmp_path: Path, thorax: Knowledge) -> None:
    german = {"absent": "{Label}: nicht gesehen{best}.", "present": "{Label} Nr. {number}: {certainty}{place}."}
    path = spoilt(tmp_path, sentences=german, certainty=[{"least": 0, "word": "gesehen"}])
    scene = Scene("a", 100, 80, (Detection("heart", Box(0, 0, 50, 50), 0.8),))
    film = Findings(thorax, ("heart", "nodule")).of(scene)
    texts = [s.text for s in sentences_of(film, load_templates(path))]
    assert texts == ["Nodule: nicht gesehen.", "Heart Nr. 0: gesehen, large."]

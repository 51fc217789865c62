from __future__ import annotations

import re
from pathlib import Path

import pytest

import neurosym
from neurosym.induction import InductionConfig

ROOT = Path(__file__).parents[2]


def test_the_python_example_runs_as_it_is_printed_but_for_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    small = ["train.steps=60", "train.lr=1e-3", "threads=1", "data.size=128", "data.test.count=12"]
    small += ["model.image_size=128", "model.max_size=128", "model.fpn_channels=48", "train.ema=0.9"]
    small += ["constraints.unlabelled_batch=0"]  # half of a step; tests/end_to_end/test_loop.py has such films
    for old, new in (
        ('["train.steps=60"]', repr(small)),
        ('"runs/example"', repr(str(tmp_path / "run"))),
        ("induce(facts_from(scenes, knowledge))", "induce(facts_from(scenes, knowledge), SHORT)"),
    ):
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, "README.md", "exec"), {"SHORT": InductionConfig(generations=2)})
    printed = capsys.readouterr().out
    assert "rules constrain this detector" in printed
    assert " :- " in printed


def test_the_public_names_are_these_and_each_can_be_imported() -> None:
    assert sorted(neurosym.__all__) == neurosym.__all__
    assert all(callable(getattr(neurosym, name)) for name in neurosym.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = neurosym.nothing  # type: ignore[attr-defined]

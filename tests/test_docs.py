"""Every block of code in the documentation: Python is run, configs are checked, Turtle and rules are read, commands exist."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rdflib
import torch
import typer
import yaml
from pydantic import BaseModel, ValidationError

from neurosym.cli import app
from neurosym.constraints import compile_constraints
from neurosym.constraints.graph import EnergyScene, ObjectScene, ontology_graph
from neurosym.data.images import annotated_scene
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.induction import InductionConfig
from neurosym.knowledge import Knowledge
from neurosym.knowledge.exchange import export_rules
from neurosym.knowledge.rules import parse_rules
from neurosym.learning.batches import to_target, to_tensor
from neurosym.learning.config import TrainConfig
from neurosym.learning.image_config import ImageTrainConfig
from neurosym.learning.pretrain_config import PretrainConfig
from neurosym.learning.schedule import ScheduleConfig
from neurosym.learning.train import train
from neurosym.loop import Stages
from neurosym.models.scene import SceneProposals
from tests.data.dicom_files import stored, write_dicom
from tests.learning.test_train import config_of

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALLER = {
    "budget=60": "budget=1",
    "refine_instances, train_scorer": "ScorerSettings, refine_instances, train_scorer",
    "train_scorer(labelled_scenes, constraints, ontology_graph(constraints, knowledge.ontology))": (
        "train_scorer(labelled_scenes, constraints, ontology_graph(constraints, knowledge.ontology), "
        "settings=ScorerSettings(groups=1, steps=4))"
    ),
}
"""What a block says, and what is run in its place, so that the tests do not take minutes."""
ELSEWHERE = {
    ("README.md", "python"): "tests/end_to_end/test_readme.py runs it",
    ("semi_supervised.md", "python"): "tests/learning/test_comatch_images.py trains a classifier of films",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line that it begins in, its language, its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Any]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if match[1] in languages:
                block = Block(page.name, text.count("\n", 0, match.start()) + 1, match[1], match[2])
                reason = ELSEWHERE.get((page.name, match[1]))
                marks = [pytest.mark.skip(reason=reason)] if reason else []
                found.append(pytest.param(block, id=str(block), marks=marks))
    return found


def commands() -> Iterator[Any]:
    """Every line that calls neurosym, in fenced and indented blocks, a continued one as one."""
    for page in PAGES:
        lines = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8")).splitlines()
        for number, line in enumerate(lines, 1):
            called = re.match(r"(?:    |\$ )?(?:torchrun .*-m )?(neurosym [a-z].*)", line)
            if called and not line.rstrip().endswith((".", ",", ":")):
                yield pytest.param(called[1].strip(), id=f"{page.name}:{number}")


def test_all_languages_of_blocks_are_known() -> None:
    known = {"", "python", "yaml", "json", "turtle", "prolog", "ebnf"}
    found = {m[1] for page in PAGES for m in re.finditer(r"^```(\w*)\n.*?^```", page.read_text(), re.M | re.S)}
    assert found <= known
    assert len(blocks("python")) > 10
    assert len(list(commands())) > 20


# --- configs, knowledge, commands -------------------------------------------------------------------------------------

DATA = {"format": "phantom", "train": {"start": 0, "count": 4}, "unlabelled": {"start": 100, "count": 4}}
BASES: dict[type[BaseModel], dict[str, Any]] = {
    TrainConfig: {"name": "x", "knowledge": ["x.ttl"], "data": DATA},
    PretrainConfig: {"name": "x", "images": [{"folder": "x"}]},
    ImageTrainConfig: {},
    ScheduleConfig: {},
}


@pytest.mark.parametrize("block", blocks("yaml"))
def test_a_config_is_accepted_where_it_belongs(block: Block) -> None:
    values = yaml.safe_load(block.text)
    refused = []
    for model, base in BASES.items():
        try:
            model.model_validate(_merged(base, values))
        except ValidationError as error:
            refused.append(f"{model.__name__}: {error}")
        else:
            return
    pytest.fail("\n".join(refused))


def _merged(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    if values.get("format", base.get("format")) != base.get("format"):
        return values  # films of another format have other fields
    both = base.keys() & values.keys()
    inner = {k: _merged(base[k], values[k]) for k in both if isinstance(base[k], dict) and isinstance(values[k], dict)}
    return base | values | inner


@pytest.mark.parametrize("block", blocks("json"))
def test_json_is_json(block: Block) -> None:
    json.loads(block.text if block.text.lstrip().startswith(("{", "[")) else "{" + block.text + "}")


@pytest.mark.parametrize("block", blocks("turtle"))
def test_turtle_is_turtle(block: Block) -> None:
    words = ("", "thorax", "blood", "film", "origin", "ns", "owl", "rdfs", "dcterms", "prov")
    prefixes = "".join(f"@prefix {word}: <http://x.org/{word}#> .\n" for word in words)
    assert len(rdflib.Graph().parse(data=prefixes + block.text, format="turtle")) > 0


@pytest.mark.parametrize("block", blocks("prolog"))
def test_rules_are_rules(block: Block) -> None:
    assert parse_rules(block.text, block.page)


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_has_the_options_and_arguments_that_it_is_shown_with(line: str) -> None:
    words = shlex.split(re.sub(r"\s+#.*|\s+[|>&]{1,2}.*", "", line).replace("…", "x"))[1:]
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="neurosym")
    while hasattr(command, "commands"):
        command.parse_args(context, list(words))  # which may name a first command
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.context_class(command, parent=context, info_name=name)
    command.make_context(context.info_name, list(words))  # refuses what it does not know, and that it lacks something


# --- Python -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(thorax: Knowledge, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What blocks take as given: films of the phantom, a detector's scenes, a small run with candidate rules."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("ontologies", "rules"):
        (folder / name).symlink_to(ROOT / name)
    config = config_of(folder, "data.val={start: 300, count: 8}", "data.test.count=12")
    run = train(config, folder / "runs/bccd").path
    short = InductionConfig(generations=0, budget_seconds=5, min_support=2)
    Stages.of(run, "test").induce(short)
    Stages.of(run, "test").induce(short, truth=True)
    (folder / "runs/jsrt-anatomy").symlink_to(run)
    write_dicom(folder / "film.dcm", stored())
    write_dicom(folder / "pacs-export/film.dcm", stored())
    (folder / "train.txt").write_text("ann\tparent\tbob\nbob\tparent\tcid\nann\tgrandparent\tcid\n")
    accepted = folder / "accepted.rules"
    accepted.write_text("")
    films = Phantom(0, 12, PhantomConfig(size=128))
    samples = [films[n] for n in range(12)]
    names = tuple(dict.fromkeys(a.name for s in samples for a in s.annotations))
    constraints = compile_constraints(thorax, names)
    boxes = torch.tensor([[10.0, 20.0, 60.0, 90.0], [70.0, 20.0, 120.0, 90.0], [40.0, 50.0, 90.0, 100.0]])
    probabilities = torch.randn(3, len(names) + 1, generator=torch.Generator().manual_seed(0)).softmax(1)
    features = torch.rand(3, 256)
    scenes = [annotated_scene(s) for s in samples]
    objects = ObjectScene(np.array([1, 2, 3]), boxes.double().numpy(), (128.0, 128.0))
    return {
        "folder": folder,
        "knowledge": thorax,
        "names": names,
        "constraints": constraints,
        "graph": ontology_graph(constraints, thorax.ontology),
        "probabilities": probabilities.requires_grad_(),
        "boxes": boxes.requires_grad_(),
        "width": 128.0,
        "height": 128.0,
        "scene": scenes[0],
        "scenes": scenes,
        "labelled_scenes": scenes,
        "predicted": [*scenes[:9], *scenes[:3]],
        "annotated": scenes,
        "detections_below_threshold": [],
        "targets": [to_target(s, names, masks=True) for s in samples[:2]],
        "images": [to_tensor(s.image) for s in samples[:2]],
        "objects": objects,
        "leaves": len(names),
        "features": features,
        "features_of_true_boxes": features,
        "rng": np.random.default_rng(0),
        "scenes_of_unlabelled_films": [EnergyScene(probabilities, boxes, (128.0, 128.0), features)],
        "run": run,
        "path": accepted,
        "files": [ROOT / "ontologies/thorax.ttl", accepted],
        "text": export_rules(thorax.rules, "swrl", thorax.ontology).text,
    }


@pytest.mark.parametrize("block", blocks("python"))
def test_python_runs(
    block: Block, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world["folder"])
    given = dict(world)
    if block.page == "constraints.md":
        given["images"] = [SceneProposals(world["probabilities"], world["boxes"], None, (128.0, 128.0))]
        _run(next(b.values[0] for b in blocks("python") if "import RepairPlan" in b.values[0].text), given)
    if block.page == "models.md":
        films, three = Phantom(0, 2, PhantomConfig(size=128)), ("right_lung", "heart", "left_lung")
        given["targets"] = [to_target(films[n], three, masks=True) for n in range(2)]
    _run(block, given)


def _run(block: Block, given: dict[str, Any]) -> None:
    code = block.text
    for old, new in SMALLER.items():
        code = code.replace(old, new)
    exec(compile("\n" * block.line + code, block.page, "exec"), given)

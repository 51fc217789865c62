"""How long a reviewer waits: 10,000 candidates listed, one opened, a hundred verdicts at once (README.md has the protocol)."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import yaml
from harness import HERE, Figure, figure, record
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from neurosym.data.images import annotated_scene
from neurosym.data.phantom import Phantom, PhantomConfig
from neurosym.induction import evaluate_rule
from neurosym.induction.index import FactIndex
from neurosym.knowledge import load_knowledge
from neurosym.learning.config import TrainConfig
from neurosym.logic import Atom, Rule, Term
from neurosym.records import Candidate, Scene
from neurosym.review import save_candidates
from neurosym.scenes import facts_from, save_scenes

ROOT = HERE.parent
ONTOLOGY = ROOT / "ontologies/thorax.ttl"
REPEATS = (0, 1, 2)
COUNT, FILMS, SIZE, OPENED, AT_ONCE = 10_000, 24, 512, 20, 100
SETTINGS = {"candidates": COUNT, "films": FILMS, "size": SIZE, "opened": OPENED, "at once": AT_ONCE}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def figures() -> list[Figure]:
    """Seconds by the clock, through HTTP and in Chromium; verdicts by the ledger's own lines."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        runs = [record("review-page", f"repeat-{i}", SETTINGS | {"repeat": i}, lambda: measured(run)) for i in REPEATS]
    found = [
        figure("10,000 candidates: from the command to the address, s", runs, lambda r: r["start"]),
        figure("10,000 candidates: the list, by HTTP, s", runs, lambda r: r["list"], "<= 1"),
        figure("10,000 candidates: filtered and sorted, by HTTP, s", runs, lambda r: r["filtered"], "<= 1"),
        figure("one rule opened, by HTTP, s", runs, lambda r: r["opened"], "<= 0.3"),
        figure("one rule opened, by HTTP, the slowest of 20, s", runs, lambda r: r["slowest"]),
        figure("an edited wording measured, by HTTP, s", runs, lambda r: r["edited"]),
    ]
    if all("browser list" in r for r in runs):
        found += [
            figure("10,000 candidates: the list in Chromium, s", runs, lambda r: r["browser list"], "<= 1"),
            figure("one rule opened in Chromium, with its film, s", runs, lambda r: r["browser opened"], "<= 0.3"),
        ]
    return [
        *found,
        figure("100 verdicts at once, each sent twice: recorded", runs, lambda r: r["recorded"], ">= 100"),
        figure("100 verdicts at once, each sent twice: doubled", runs, lambda r: r["doubled"], "<= 0"),
        figure("100 verdicts at once, each sent twice: seconds for all", runs, lambda r: r["verdicts"]),
    ]


def measured(run: Path) -> dict[str, Any]:
    """One server from its start to its end, on a run without verdicts."""
    if not run.is_dir():
        make_run(run)
    (run / "reviews.jsonl").unlink(missing_ok=True)
    with server(run) as (address, start):
        root = address.split("?")[0]
        with httpx.Client(base_url=root, follow_redirects=True, timeout=120) as client:
            client.get(address)
            found = {"start": start} | by_http(client)
            if CHROMIUM is not None:
                found |= in_chromium(address)
            return found | at_once(client, run)


def by_http(client: httpx.Client) -> dict[str, Any]:
    """The first answer of each kind counts, too: nothing is asked for beforehand."""
    wording = {"csrf": csrf_of(client), "text": "near(X, Y) :- lung(X), heart(Y), large_object(X)."}
    headers = {"HX-Request": "true"}
    listed = seconds(lambda: client.get("/"))
    filtered = seconds(lambda: client.get("/", params={"q": "lung", "sort": "lift", "down": "1", "status": "open"}))
    opened = [seconds(lambda n=n: client.get(f"/rule/{n}")) for n in chosen()]
    client.post("/rule/1/wording", data=wording, headers=headers)  # makes the facts of all films, once
    edited = [seconds(lambda n=n: client.post(f"/rule/{n}/wording", data=wording, headers=headers)) for n in chosen()]
    return {
        "list": listed,
        "filtered": filtered,
        "opened": statistics.median(opened),
        "slowest": max(opened),
        "edited": statistics.median(edited),
    }


def in_chromium(address: str) -> dict[str, float]:
    """Until the rows, or the film's pixels, are there."""
    root = address.split("?")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(address)
        page.wait_for_url(root)

        def listed() -> None:
            page.goto(root)
            page.wait_for_selector("a.row")

        def opened(number: int) -> None:
            page.goto(f"{root}rule/{number}", wait_until="domcontentloaded")
            page.evaluate("document.querySelector('#film svg image').decode()")

        found = {
            "browser list": statistics.median(seconds(listed) for _ in range(3)),
            "browser opened": statistics.median(seconds(lambda n=n: opened(n)) for n in chosen()),
        }
        shown(page)
        browser.close()
    return found


def shown(page: Page) -> None:
    """What was timed is a page with a film on it."""
    assert page.locator("#film svg image").bounding_box() is not None


def at_once(client: httpx.Client, run: Path) -> dict[str, Any]:
    """A hundred verdicts from twenty threads, each sent twice under one id, counted in the ledger afterwards."""
    csrf, verdicts = csrf_of(client), ("accept", "later", "reject")
    client.follow_redirects = False

    def send(i: int) -> int:
        form = {"csrf": csrf, "entry": f"verdict-{i}", "verdict": verdicts[i % 3], "reason": "for the bench"}
        return client.post(f"/rule/{i + 1}/verdict", data=form).status_code

    started = time.perf_counter()
    with ThreadPoolExecutor(20) as pool:
        statuses = Counter(pool.map(send, [i for i in range(AT_ONCE) for _ in range(2)]))
    elapsed = time.perf_counter() - started
    assert statuses == {303: 2 * AT_ONCE}, statuses
    lines = Counter(json.loads(line)["id"] for line in (run / "reviews.jsonl").read_text().splitlines())
    wanted = {f"verdict-{i}" for i in range(AT_ONCE)}
    return {"recorded": len(wanted & set(lines)), "doubled": lines.total() - len(lines), "verdicts": elapsed}


def chosen() -> range:
    """Rules from the whole list."""
    return range(1, COUNT, COUNT // OPENED)


def csrf_of(client: httpx.Client) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', client.get("/reviewer").text)
    assert found is not None
    return found[1]


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def server(run: Path) -> Iterator[tuple[str, float]]:
    """`neurosym review RUN`: its address, and how long it took to print it."""
    command = [sys.executable, "-m", "neurosym", "review", str(run), "--no-browser", "--reviewer", "bench"]
    started = time.perf_counter()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]  # noqa: S603
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        elapsed = time.perf_counter() - started
        try:
            yield address, elapsed
        finally:
            process.terminate()


def make_run(folder: Path) -> None:
    """Phantom films, what is on them as predictions, and rules of every relation between two classes, measured on them."""
    (folder / "films").mkdir(parents=True)
    knowledge = load_knowledge([ONTOLOGY])
    scenes: list[Scene] = []
    for sample in Phantom(0, FILMS, PhantomConfig(size=SIZE)):
        path = folder / "films" / f"{sample.image_id}.png"
        Image.fromarray(sample.image).save(path)
        scenes.append(replace(annotated_scene(sample), image_path=str(path)))
    save_scenes(folder / "scenes-test.json", scenes, "step-1")
    data = {"format": "phantom", "size": SIZE, "train": {"start": 0, "count": FILMS}}
    config = TrainConfig.model_validate({"name": "bench", "knowledge": [str(ONTOLOGY)], "data": data, "base": folder})
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json") | {"names": ["heart"]}))
    index = FactIndex.of(facts_from(scenes, knowledge))
    binary = [r.name for r in index.relations if r.arity == 2]
    unary = [r.name for r in index.relations if r.arity == 1]
    x, y = Term("X"), Term("Y")
    found = []
    for head, more, back, a, b in product(binary, binary, (True, False), unary, unary):
        if head == more and not back:
            continue
        body = (Atom(a, (x,)), Atom(b, (y,)), Atom(more, (y, x) if back else (x, y)))
        m = evaluate_rule(Rule((Atom(head, (x, y)),), body), index)
        if not m.body_size:
            continue
        rule = Rule((Atom(head, (x, y)),), body, max(0.001, round(m.confidence, 3)), {"id": f"r{len(found)}"})
        measures = (m.support, m.body_size, m.confidence, m.pca_confidence, m.head_coverage, m.lift)
        found.append(Candidate(rule, *measures, m.supporting, m.refuting))
        if len(found) == COUNT:
            break
    assert len(found) == COUNT
    origin = {"facts": "predictions", "run": "bench/run", "split": "test", "threshold": 0.5, "checkpoint": "step-1"}
    save_candidates(folder / "candidates.json", found, origin | {"trained_with": [], "untold": ""})

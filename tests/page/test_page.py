"""The page of docs/try in a browser: senses, learns as the twin does, keeps to itself, is usable by everyone."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fresh
import numpy as np
import pytest
from chromium import AXE, FAULTS
from numpy.typing import NDArray
from page_motion import MOVEMENTS, TAKEN, Phone, begun, learned, taught
from playwright.sync_api import BrowserContext, Page, expect
from served import Served

from edgelora.base.resources import ROOT
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import unpack_model
from edgelora.core.twin import device
from edgelora.learn.training.board.board_run import NAME
from edgelora.learn.training.data.samples import Samples, Source
from edgelora.learn.training.recipe import Recipe, inference
from edgelora.learn.training.twin.on_twin import board_model, board_store

sys.path.insert(0, str(ROOT / "tools"))

import try_page  # noqa: E402

BASES = ROOT / "host" / "edgelora" / "studio" / "bases"
MOST_BYTES = 300_000
# Learns in the page's own modules: samples by base, with vectors or without.
LEARN = """async ({ name, xs, labels, classes, seed, vectors }) => {
  const { Base } = await import("./base.js");
  const { Core } = await import("./core.js");
  const { learn } = await import("./learning.js");
  const samples = { xs: xs.map((x) => Uint8Array.from(x)), labels, classes };
  const run = learn(await Core.load(vectors), await Base.named(name), samples, seed);
  let now = run.next();
  while (!now.done) now = run.next();
  const bytes = (adapter) => adapter && Array.from(adapter);
  return { ...now.value, adapter: bytes(now.value.adapter), trained: bytes(now.value.trained) };
}"""
# Updates an adapter with samples, eight at a time, on each of the two cores; then evaluates them.
STEPS = """async ({ name, xs, labels, rows }) => {
  const { Base } = await import("./base.js");
  const { Core, Session, TRAIN } = await import("./core.js");
  const base = await Base.named(name);
  const samples = xs.map((x) => Uint8Array.from(x));
  const results = [];
  for (const vectors of [true, false]) {
    const session = new Session(await Core.load(vectors), base, TRAIN);
    session.load(Uint8Array.from(rows));
    samples.forEach((x, i) => {
      session.train(x, labels[i], 6000);
      if (i % 8 === 7) session.flush(6000);
    });
    const answers = samples.map((x, i) => session.evaluate(x, labels[i]));
    results.push({ adapter: Array.from(session.save()), answers });
  }
  return results;
}"""
FEED = """async ({ name, counts, each }) => {
  const { Base } = await import("./base.js");
  const { Core } = await import("./core.js");
  const { Pipeline } = await import("./signal.js");
  const pipeline = new Pipeline(await Core.load(), await Base.named(name));
  const found = [];
  for (let at = 0; at < counts.length; at += each) {
    pipeline.feed(Int16Array.from(counts.slice(at, at + each)), (x) => found.push(Array.from(x)));
  }
  return found;
}"""
# Which connections the browser refuses.
REFUSED = """async () => {
  const refused = [];
  await fetch("./").catch(() => refused.push("fetch"));
  await new Promise((done) => {
    const socket = new WebSocket(location.href.replace("http", "ws"));
    socket.onopen = done;
    socket.onerror = () => done(refused.push("WebSocket"));
  });
  return refused;
}"""


# Calls of the page's rules: names and arguments.
RULES = """async (calls) => {
  const rules = await import("./rules.js");
  return calls.map(([name, ...given]) => rules[name](...given));
}"""


def saved(page: Page, what: str, to: Path) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save the {what}").click()
    path = to / download.value.suggested_filename
    download.value.save_as(path)
    return path.read_bytes()


def rows_of(elm: bytes, samples: Samples, names: dict[int, str]) -> bytes:
    """The adapter that `add_class` makes on a board."""
    held = held_of(samples)
    model = device.module().Model(elm, *inference(bytes(len(unpack_model(elm).ops))))
    for number, name in names.items():
        model.add_class(name, [x.tobytes() for x in samples.x[~held & (samples.y == number)]])
    return bytes(model.used.buffer)


def held_of(samples: Samples) -> NDArray[np.bool_]:
    held = np.zeros(len(samples), bool)
    held[list(device.module("training").apart(samples.y.tolist())[1])] = True
    return held


def layers_of(elm: bytes, samples: Samples, rows: bytes, seed: int) -> tuple[bytes, tuple[int, int], tuple[int, int]]:
    """The adapter that a board's learner trains with these rows, and how rows and it do on held-out samples."""
    held, learner = held_of(samples), device.module("learner")
    model = board_model(elm, Recipe().settings(elm))
    store = board_store(model)
    store.put(NAME, rows)
    parts = Source(samples.part(~held)), Source(samples.part(held))
    settings = parts[0], store, NAME, 0, seed, 0, 1 << 30
    run = learner._Consolidation(lambda *_: True, (), model, *settings, held=parts[1])
    while not run.done:
        run.step()
    return bytes(store.read(NAME)), run.before, run.best


def drawn(elm: bytes, count: int) -> tuple[Samples, dict[int, str]]:
    """Samples of two added classes and one of the base, around means so different that rows beat the base."""
    rng, model = np.random.default_rng(fresh.SEED), unpack_model(elm)
    names = {model.classes: "wave", model.classes + 1: "circle", 1: model.labels[1]}
    y = np.array(sorted(names) * count)
    means = {number: rng.normal(0, 60, model.input.size) for number in names}
    x = np.stack([means[number] + rng.normal(0, 20, model.input.size) for number in y])
    return Samples(np.clip(x, -128, 127).astype(np.int8), y), names


def test_it_learns_and_saves_what_the_twin_makes(opened: Callable[[], Page], tmp_path: Path) -> None:
    page = opened()
    phone = Phone(page)
    learned(page, phone)
    elm, ela, eld = (saved(page, what, tmp_path) for what in ("base", "adapter", "samples"))
    assert elm == (BASES / "motion.elm").read_bytes()
    file = device.module("training").SampleFile(str(tmp_path / "motion.eld"))
    x = np.zeros((file.count, file.sample_size), np.int8)
    y = np.array([file.read(i, memoryview(x[i]).cast("B")) for i in range(file.count)])
    assert file.count == TAKEN * len(MOVEMENTS)
    samples, known = Samples(x, y), unpack_model(elm).classes
    assert eld == pack_samples(x, y, None, elm[16:24])
    rows = rows_of(elm, samples, {known + i: name for i, name in enumerate(MOVEMENTS)})
    layers, before, after = layers_of(elm, samples, rows, 0)
    in_use = page.locator("tr.used").inner_text()
    assert ela == (layers if "layers" in in_use else rows)
    assert f"{before[0]} of {len(y) // 4}" in page.get_by_role("row", name="with your classes").inner_text()
    assert f"{after[0]} of {len(y) // 4}" in page.get_by_role("row", name="with trained layers").inner_text()
    phone.move("shake", 4)
    expect(page.locator("#answer")).to_have_text("shake")
    phone.move("circle", 4)
    expect(page.locator("#answer")).to_have_text("circle")


@pytest.mark.parametrize(("name", "cores"), [("motion", [True, False]), ("sound", [True])])
def test_layers_are_the_twins(opened: Callable[[], Page], name: str, cores: list[bool]) -> None:
    """On cores with vectors and without. Sound would take a minute without: the next test has a part of it."""
    elm = (BASES / f"{name}.elm").read_bytes()
    samples, names = drawn(elm, 8)
    rows = rows_of(elm, samples, names)
    seed = 7
    layers, _, _ = layers_of(elm, samples, rows, seed)
    classes = [{"number": n, "name": one if n >= unpack_model(elm).classes else ""} for n, one in names.items()]
    given = {"name": name, "labels": samples.y.tolist(), "classes": classes, "seed": seed}
    given["xs"] = samples.x.view(np.uint8).tolist()
    page = opened()
    for vectors in cores:
        made = page.evaluate(LEARN, given | {"vectors": vectors})
        assert made["used"] != "base"
        assert bytes(made["trained"]) == layers
        assert bytes(made["adapter"] or b"") in (b"", rows, layers)


def test_rules_are_the_boards(opened: Callable[[], Page]) -> None:
    """Translated, they give what the device's own give."""
    calls: list[tuple[Any, ...]] = []
    for seed in range(300):
        rng = random.Random(seed)
        labels = [rng.choice((0, 1, 1, 5)) for _ in range(rng.randint(1, 40))]
        right, than, wrong = (rng.randint(0, len(labels)) for _ in range(3))
        loss, other = rng.choice((7, rng.randint(0, 10**7))), 7
        calls += [("apart", labels), ("can_judge", labels), ("_rare", labels), ("_guesses", right, labels)]
        calls += [(name, right, loss, than, other) for name in ("better", "milder")]
        calls += [("_exceeds_chance", right - than, wrong), ("fitting_epochs", len(labels), 8)]
        calls += [("falling_rate", rng.randint(1, 65535), wrong, len(labels)), ("is_enough", right, len(labels))]
    modules = device.module("training"), device.module("learner")
    expected = [next(getattr(m, name) for m in modules if hasattr(m, name))(*given) for name, *given in calls]
    plain = [[list(part) for part in one] if name == "apart" else list(one) if name == "_rare" else one
             for (name, *_), one in zip(calls, expected, strict=True)]  # fmt: skip
    assert opened().evaluate(RULES, calls) == plain


def test_cores_train_alike(opened: Callable[[], Page]) -> None:
    """With vectors and without: the same adapter after a few updates, and the same answers."""
    elm = (BASES / "sound.elm").read_bytes()
    samples, names = drawn(elm, 8)
    rows = rows_of(elm, samples, names)
    given = {"name": "sound", "xs": samples.x.view(np.uint8).tolist(), "labels": samples.y.tolist(), "rows": list(rows)}
    with_vectors, without = opened().evaluate(STEPS, given)
    assert with_vectors == without
    assert bytes(with_vectors["adapter"]) != rows


@pytest.mark.parametrize("name", ["motion", "sound"])
def test_inputs_are_the_boards(opened: Callable[[], Page], name: str) -> None:
    """From the same counts, in pieces of any length."""
    rng, elm = np.random.default_rng(fresh.SEED), (BASES / f"{name}.elm").read_bytes()
    model = device.module().Model(elm, 0, "infer")
    signal = model.signal
    counts = rng.normal(0, 3000, (round(3.3 * signal.window), signal.channels)).astype(np.int16)
    host = device.module("sources").Host(signal.rate, signal.channels)
    pipeline = device.module("pipeline").Pipeline(model, host)
    wanted = []
    for at in range(0, len(counts), 50):
        host.put(counts[at : at + 50].tobytes())
        while not pipeline.ended and (pipeline.step() or pipeline.pending):
            if pipeline.windows > len(wanted):
                wanted.append(list(pipeline.x))
    each = int(rng.integers(1, 2000)) * signal.channels
    found = opened().evaluate(FEED, {"name": name, "counts": counts.ravel().tolist(), "each": each})
    assert len(wanted) > 1
    assert found == wanted


def test_a_worse_adapter_is_not_used(opened: Callable[[], Page]) -> None:
    """Samples whose labels are drawn by lot teach nothing."""
    elm = (BASES / "motion.elm").read_bytes()
    model, rng = unpack_model(elm), np.random.default_rng(fresh.SEED)
    page = opened()
    xs = rng.integers(-128, 128, (1, model.input.size)).repeat(24, 0).astype(np.int8)
    session = device.module().Model(elm, 0, "infer")
    said = session.infer(xs[0].tobytes())
    other = (said + 1) % model.classes
    labels = [said] * 16 + [other] * 8
    given = {"name": "motion", "xs": xs.view(np.uint8).tolist(), "labels": labels, "seed": 0, "vectors": True}
    made = page.evaluate(LEARN, given | {"classes": [{"number": n, "name": ""} for n in (said, other)]})
    assert (made["used"], made["adapter"], made["held"], made["base"]) == ("base", None, 6, 4)


def test_samples_can_be_taken_back_and_few_are_used_unchecked(opened: Callable[[], Page]) -> None:
    page = opened()
    phone = Phone(page)
    begun(page, phone)
    taught(page, phone, 3)
    last = page.get_by_role("listitem").filter(has_text=MOVEMENTS[-1])
    expect(last).to_contain_text("3")
    page.get_by_role("button", name="Undo").click()
    expect(last).to_contain_text("2")
    page.get_by_role("button", name="Delete rest").click()
    expect(page.get_by_role("listitem")).to_have_count(2)
    page.get_by_label("New class").fill("circle")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("alert")).to_contain_text("There is a class circle already.")
    page.get_by_role("button", name="Learn", exact=True).click()
    expect(page.locator("#verdict")).to_contain_text("unchecked")
    expect(page.get_by_role("button", name="Save the adapter")).to_be_enabled()


def test_learning_can_be_cancelled(opened: Callable[[], Page]) -> None:
    page = opened()
    phone = Phone(page)
    begun(page, phone)
    taught(page, phone)
    page.evaluate("document.getElementById('learn').click(); document.getElementById('cancel').click()")
    expect(page.locator("#verdict")).to_have_text("Cancelled. Nothing has changed.")
    expect(page.get_by_role("button", name="Save the adapter")).to_be_disabled()
    page.get_by_role("button", name="Learn", exact=True).click()
    expect(page.locator("#verdict")).to_contain_text("After:")


def test_it_hears_the_microphone(opened: Callable[[], Page]) -> None:
    page = opened()
    page.get_by_role("button", name="Microphone").click()
    expect(page.locator("#chance")).to_contain_text("%")
    page.get_by_label("New class").fill("tone")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("button", name="Record tone").click()
    expect(page.get_by_role("listitem")).to_contain_text("1", timeout=20_000)
    page.get_by_role("button", name="Stop recording tone").click()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_role("button", name="Record tone")).to_be_disabled()


def test_nothing_leaves_the_device(
    opened: Callable[[], Page], context: BrowserContext, site: Served, tmp_path: Path
) -> None:
    """No request once it is loaded; it works without a network; the browser refuses connections."""
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = opened()
    page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
    before = len(site.asked)
    learned(page, Phone(page))
    saved(page, "adapter", tmp_path)
    assert site.asked[before:] == []
    assert all(url.startswith((site.address, "blob:", "data:")) for url in asked), asked
    assert page.evaluate(REFUSED) == ["fetch", "WebSocket"]
    context.set_offline(True)
    page.reload()
    page.locator("body[data-ready]").wait_for()
    begun(page, Phone(page))
    assert site.asked[before:] == []


def test_it_is_small(folder: Path, opened: Callable[[], Page]) -> None:
    """What a visitor loads; the time until its buttons work is printed."""
    ready = opened().evaluate("Number(document.body.dataset.ready)")
    print(f"{try_page.loaded(folder)} bytes, interactive after {ready} ms")
    assert try_page.loaded(folder) <= MOST_BYTES


def test_everyone_can_use_it(opened: Callable[[], Page]) -> None:
    """No accessibility fault, light and dark, from 360 px."""
    page = opened()
    learned(page, Phone(page))
    page.evaluate(AXE.read_text())
    faults: dict[str, None] = {}
    for width, theme in ((360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")):
        page.set_viewport_size({"width": width, "height": 740})
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        faults |= dict.fromkeys(f"{theme}, {width} px: {fault}" for fault in page.evaluate(FAULTS))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not faults, "\n".join(faults)

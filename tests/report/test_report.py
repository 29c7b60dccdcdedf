"""The report of a run: its JSON, its page, and the metrics of a run that was killed."""

import contextlib
import dataclasses
import itertools
import json
import math
import random
import re
import sys
import types
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fresh
import numpy as np
import pytest
from random_models import random_model

from edgelora.board.energy import EnergyRow
from edgelora.board.profiles import load_board
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.twin import regions
from edgelora.learn.planning.choose import Budget, Candidate, Choice
from edgelora.learn.planning.plan import layer_plans, plan
from edgelora.learn.planning.sensitivity import Sensitivity
from edgelora.learn.report.compare import comparison
from edgelora.learn.report.conclusion import State
from edgelora.learn.report.metrics import Metrics, read_metrics
from edgelora.learn.report.plan_page import write_plan_report
from edgelora.learn.report.record import Change, LayerRow, Report, ReportError
from edgelora.learn.report.sections import device_code, render_html, write_report
from edgelora.learn.training.judge.early_stopping import Verdict
from edgelora.learn.training.recipe import Recipe

LABELS = ["climbing stairs", "descending", "walking", "running", "cycling", "sitting"]
HOSTILE = '<script>alert("1")</script>'
NEW = ("gained", "lost", "activated", "base_path", "adapter_path", "store_name", "epoch_accuracies")  # since 0.1.0
VOID = {"meta", "br", "hr", "img", "input", "link"}


def example(**changes: object) -> Report:
    """A run like the demo's, on a small random network."""
    rng = np.random.default_rng(3)
    model = random_model(13, "medium", ("conv", "average_pool", "conv", "conv", "mean", "dense"))
    elm = pack_model(model)
    recipe = Recipe(seed=1)
    settings = recipe.settings(elm)
    plan = regions.layout(elm, *settings)
    layers = [
        LayerRow(p.op, p.kind, list(p.input), list(p.output), p.weights, p.rank, p.adapter_bytes)
        for p in layer_plans(model, settings)
    ]
    losses = (1.5 * np.exp(-np.arange(96) / 30) + 0.25 + rng.normal(0, 0.14, 96)).clip(0.03).tolist()
    epoch_losses = [float(np.mean(losses[at : at + 12])) for at in range(0, 96, 12)]
    report = Report(
        board="virtual-pico",
        base_accuracy=0.7057,
        adapted_accuracy=0.8968,
        float_lora_accuracy=0.8803,
        host_twin_identical=True,
        arena_bytes=plan.arena_bytes,
        adapter_bytes=684,
        infer_us=18_420.0,
        train_step_us=47_910.5,
        swap_us=212.0,
        samples=96,
        epochs=8,
        rank=4,
        mode="frozen_a",
        title="Smartwatch gestures of person 6",
        created="2025-03-04T10:20:30+00:00",
        subject="person 6",
        seed=1,
        labels=LABELS,
        test_samples=248,
        micro_batch=8,
        momentum=3,
        learning_rate=6000,
        steps=96,
        base_id=base_id(elm).hex(),
        model_bytes=len(elm),
        firmware="MicroPython v1.26.0, EdgeLoRA 0.1.0",
        float_base_accuracy=0.7097,
        losses=losses,
        epoch_losses=epoch_losses,
        float_lora_losses=[loss * 0.9 + 0.05 for loss in epoch_losses],
        confusion_base=_confusion(rng, 0.7),
        confusion_adapted=_confusion(rng, 0.9),
        layers=layers,
        memory=list(plan.regions),
        memory_steps=plan.steps,
        swap_flash_us=1_840.0,
        predicted_infer_us=5_402.0,
        predicted_train_step_us=15_120.0,
        active_watts=0.095,
        update_joules=0.00455,
        energy=[EnergyRow(mhz, 2e6 / mhz, 6e5 / mhz, mhz / 1400, 0.5 / mhz, 0.02 / mhz) for mhz in (48, 125, 133)],
        checkpoint_bytes=140,
        power_source="RP2040 datasheet, typical at 125 MHz",
        link={"baud": 115_200, "retries": 0, "bytes_per_second": 61_240.0},
        notes=["Times are emulated RP2040 cycles at 125 MHz."],
        gained=58,
        lost=11,
        activated=True,
        base_path="/rom/har.elm",
        adapter_path="/adapter.ela",
        epoch_accuracies=[0.75, 0.82, 0.84, 0.85, 0.88, 0.89, 0.9, 0.8968],
    )
    return dataclasses.replace(report, **changes)


def of_values(**changes: object) -> Report:
    """A run of a network that learns values: errors, but no classes."""
    none = dict.fromkeys(("float_lora_accuracy", "float_base_accuracy", "gained", "lost"))
    empty = {name: [] for name in ("labels", "confusion_base", "confusion_adapted", "epoch_accuracies")}
    report = example(base_accuracy=None, adapted_accuracy=None, float_lora_losses=[], **none, **empty)
    errors = {"base_error": 0.04, "adapted_error": 0.0251, "error_change": Change(-0.021, -0.0089)}
    return dataclasses.replace(report, **errors | {"epoch_errors": [0.033, 0.028, 0.0251]} | changes)


def _confusion(rng: np.random.Generator, right: float) -> list[list[int]]:
    shares = np.full((6, 6), (1 - right) / 5) * rng.random((6, 6)) * 2
    np.fill_diagonal(shares, right)
    return np.rint(shares * rng.integers(30, 50, (6, 1))).astype(int).tolist()


class Page(HTMLParser):
    """Checks that tags are balanced; collects them with their attributes, and the text outside <style>."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def bare() -> Report:
    """A run with only the required fields, and no times."""
    return Report("unix", 0.5, 0.5, None, None, 1024, 10, None, None, None, 1, 1, 1, "trainable_a")


# --- The page ---


@pytest.mark.parametrize("report", [example(), bare(), of_values()], ids=["full", "bare", "values"])
def test_page_is_one_accessible_file(report: Report) -> None:
    html = render_html(report)
    page = Page(html)
    for outside in ("http:", "https:", "//", "url(", "@import", "<script", "src="):
        assert outside not in html
    assert all("href" not in attributes and "on" not in {k[:2] for k in attributes} for _, attributes in page.tags)
    assert all(attributes["scope"] in ("row", "col") for attributes in page.named("th"))
    drawings = [a for a in page.named("svg") if "aria-hidden" not in a]
    assert all(a["role"] == "img" and a["aria-label"] for a in drawings)


def test_page_tells_the_run() -> None:
    report = example()
    page = Page(render_html(report))
    for said in (
        "70.6%",
        "89.7%",
        "88.0%",
        "Host twin identical: yes",
        "19.1 points better",
        "18.4 ms",
        "212 µs",
        "4.55 mJ",
        "133 MHz, cheapest",
        "10.4 mJ",
        "125 MHz",
        "48 MHz",
        "Checkpoint",
        report.base_id,
        "Times are emulated RP2040 cycles at 125 MHz.",
        *LABELS,
    ):
        assert said in page.text
    assert len(page.named("rect")) == len(report.memory)
    assert "NaN" not in page.text and "None" not in page.text


def test_page_without_the_optional_parts() -> None:
    text = Page(render_html(bare())).text
    assert "not checked" in text and "no change" in text
    assert "Confusion" not in text and "float LoRA" not in text
    worse = Page(render_html(example(adapted_accuracy=0.6, host_twin_identical=False))).text
    assert "10.6 points worse" in worse and "Host twin identical: no" in worse


def test_page_reports_a_worse_run() -> None:
    """Better, worse, or neither; an adapter below its base is not activated, whether or not the difference is
    measurable."""
    for gained, lost, activated, said in (
        (50, 3, True, "Better than before"),
        (5, 3, True, "No measurable difference"),
        (3, 5, False, "No measurable difference: not activated"),
        (3, 29, False, "Worse than before: not activated"),
    ):
        page = Page(render_html(example(gained=gained, lost=lost, activated=activated)))
        badges = [attributes["class"] for attributes in page.named("p") if "badge" in (attributes.get("class") or "")]
        assert badges[0] == f"badge {'no' if not activated else 'yes' if said == 'Better than before' else ''}"
        assert said in page.text and f"{gained} test samples became correct and {lost} wrong" in page.text
        assert ("keeps its adapter" in page.text) is not activated
    assert "95% interval 64.6 to 75.9%" in page.text


@pytest.mark.parametrize(
    ("changes", "state", "short", "said"),
    [
        ({"judged": Verdict.BETTER}, State.BETTER, "better", "On 20 samples held out from training it is better"),
        ({"judged": Verdict.BETTER, "gained": 5}, State.UNPROVEN, "better on held-out samples only", "5 test samples"),
        (
            {"judged": Verdict.BETTER, "tested_on_seen": 9},
            State.UNPROVEN,
            "better on held-out samples only",
            "used 9 of",
        ),
        (
            {"judged": Verdict.NOT_BETTER, "activated": False},
            State.NOT_BETTER,
            "not better, not activated",
            "not better",
        ),
        ({"judged": Verdict.NOT_BETTER}, State.NOT_BETTER, "not better, activated anyway", "uses the adapter"),
        ({"judged": Verdict.WORSE, "gained": 0, "activated": False}, State.NOT_BETTER, "not better, not activated", ""),
        ({"judged": Verdict.WORSE, "gained": 0, "lost": 9}, State.WORSE, "worse, activated anyway", ""),
        (
            {"judged": Verdict.CAUTIOUS, "held_out": 0, "gained": 4},
            State.UNJUDGED,
            "not validated",
            "lower learning rate",
        ),
        ({"judged": Verdict.CAUTIOUS, "held_out": 0}, State.BETTER, "better", "lower learning rate"),
        (
            {"judged": Verdict.SINGLE_CLASS, "held_out": 0, "gained": 4},
            State.UNJUDGED,
            "not validated",
            "Record another class",
        ),
        (
            {"judged": Verdict.UNJUDGED, "held_out": 0, "activated": False},
            State.UNJUDGED,
            "not validated, not activated",
            "too few samples to judge",
        ),
        ({"judged": Verdict.BETTER, "held_out": 0, "own_rows": True}, State.BETTER, "better", "without training"),
        ({"judged": Verdict.BETTER, "host_twin_identical": False}, State.DIFFERS, State.DIFFERS.value, "Don't use it"),
    ],
)
def test_the_conclusion_is_the_same_everywhere(changes: dict[str, Any], state: State, short: str, said: str) -> None:
    """The page, its table of runs, a notebook and `repr` use the words of one function."""
    report = example(**{"activated": True, "gained": 50, "lost": 3, "held_out": 20} | changes)
    conclusion = report.conclusion
    assert (conclusion.state, conclusion.short) == (state, short) and said in conclusion.text
    page = " ".join(Page(render_html(report)).text.split())
    assert conclusion.headline in page and conclusion.text in page
    assert short in comparison([("1", report)])[1][0]
    assert short in repr(report) and f"conclusion{short}" in Page(report._repr_html_()).text


def test_the_conclusion_names_the_adapter_that_was_kept() -> None:
    """Or how the final one was made, from all samples."""
    report = example(best_epoch=6, held_out=20, samples=60, judged=Verdict.BETTER)
    assert "Kept: the adapter of epoch 6, chosen by 20 held-out samples." in report.conclusion.text
    final = dataclasses.replace(report, final_epochs=6)
    said = "Kept: a fresh adapter, trained for 6 epochs on all 80 samples, after one without the 20 held-out samples"
    assert said in final.conclusion.text
    assert said in " ".join(Page(render_html(final)).text.split())
    unused = dataclasses.replace(report, judged=Verdict.NOT_BETTER, activated=False).conclusion.text
    assert "Not used: the adapter of epoch 6" in unused and "Kept" not in unused


def test_page_of_values_tells_errors() -> None:
    """By the interval of the change: better, worse, or neither; nothing about classes."""
    for change, activated, after, said in (
        (Change(-0.021, -0.0089), True, 0.0251, "Better than before"),
        (Change(-0.021, 0.0003), True, 0.03, "No measurable difference"),
        (None, False, 0.0401, "No measurable difference: not activated"),
        (Change(0.001, 0.02), False, 0.05, "Worse than before: not activated"),
    ):
        page = Page(render_html(of_values(error_change=change, activated=activated, adapted_error=after)))
        badges = [attributes["class"] for attributes in page.named("p") if "badge" in (attributes.get("class") or "")]
        assert badges[0] == f"badge {'no' if not activated else 'yes' if said == 'Better than before' else ''}"
        assert said in page.text and f"it had a mean squared error of {after:.4g}" in page.text
    text = Page(render_html(of_values())).text
    assert "changed by \u22120.021 to \u22120.0089 (95% interval" in text and "37.2% less." in text
    assert "Mean squared error on held-out samples, from 0.04 to 0.0251" in text and "epoch 2: 0.028" in text
    assert "print(list(model.output))" in text and "squared units" in text
    assert not re.search("accuracy|confusion|class|nats", text, re.IGNORECASE)
    assert repr(of_values()) == "<Report Smartwatch gestures of person 6: error 0.04 -> 0.0251, better>"
    assert "error after0.0251" in Page(of_values()._repr_html_()).text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_accuracy": 0.5}, "either base_accuracy"),
        ({"base_accuracy": 0.5, "adapted_accuracy": 0.5}, "either base_accuracy"),
        ({"base_error": None}, "either base_accuracy"),
        ({"base_error": None, "adapted_error": None}, "either base_accuracy"),
        ({"base_error": -1.0}, "base_error: -1.0 is not within"),
        ({"error_change": {"low": 2, "high": 1}}, "its low end is above the high one"),
        ({"error_change": {"low": 2}}, "high missing"),
        ({"epoch_errors": ["0.1"]}, r"epoch_errors\[0\]"),
        ({"gained": 3}, "gained: a run with errors has no such figures"),
        ({"confusion_base": [[1]]}, "confusion_base: a run with errors has no such figures"),
        ({"epoch_accuracies": [0.5]}, "epoch_accuracies: a run with errors has no such figures"),
    ],
)
def test_records_of_values_are_whole(changes: dict[str, object], said: str) -> None:
    assert Report.from_json(of_values().to_json()) == of_values()
    with pytest.raises(ReportError, match=said):
        Report.from_json(json.dumps(json.loads(of_values().to_json()) | changes))


def test_notebooks_show_a_small_table() -> None:
    report = example(title=HOSTILE, board=HOSTILE)
    text = Page(report._repr_html_()).text
    assert text.count(HOSTILE) == 2 and "89.7% (95% interval 85.3% to 92.9%)" in text and "conclusionbetter" in text
    assert repr(example()) == "<Report Smartwatch gestures of person 6: accuracy 70.6% -> 89.7%, better>"
    model = random_model(13, "medium", ("conv", "mean", "dense"))
    made = plan(pack_model(model), load_board("rpi_pico"), Recipe(seed=1))
    assert f"arena{made.arena_bytes:,} of {made.ram_bytes:,} bytes" in Page(made._repr_html_()).text
    Page(bare()._repr_html_())


def test_old_records_lead_to_no_conclusion() -> None:
    data = {key: value for key, value in json.loads(example().to_json()).items() if key not in NEW}
    report = Report.from_json(json.dumps(data))
    text = Page(render_html(report)).text
    assert report.verdict is None and "sign test" not in text and "activated" not in text
    assert "Next steps" not in text and "held-out" not in text


def test_page_tells_each_class_and_epoch() -> None:
    counts = ([[8, 2], [0, 5]], [[10, 0], [1, 4]])
    report = example(labels=["walk"], confusion_base=counts[0], confusion_adapted=counts[1])
    page = Page(render_html(report))
    for said in ("walk80.0% (8)100.0% (10)+20.0 points10", "class 1100.0% (5)80.0% (4)\u221220.0 points5"):
        assert said in page.text
    assert "from 70.6% to 89.7%. Epoch 0 is the base. Measured on the host twin" in page.text
    assert sum("epoch 3: 84.0%" in part for part in page.text.splitlines()) == 1
    assert len([line for line in page.named("line") if line["class"] == "interval"]) == 9 + 1  # and in the legend


def test_device_code_suits_the_run() -> None:
    """It compiles for any names, and has the layers' ranks."""
    alike = example(base_path='/a"b\n.elm')
    alike.layers = [dataclasses.replace(row, rank=4 if row.weights else 0) for row in alike.layers]
    called: list[object] = []

    class Model:
        labels, input_size = ["walk"], 4

        def __init__(self, *arguments: object, **named: object) -> None:
            called.extend([*arguments, named["ranks"], named["mode"]])

        def adapter(self, path: str) -> str:
            return path

        def use(self, adapter: str) -> None:
            called.append(adapter)

        def infer(self, window: bytearray) -> int:
            return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "edgelora", types.SimpleNamespace(Model=Model))
        exec(device_code(alike), {})
        by_layer = example()
        by_layer.layers[0].rank = 2
        exec(device_code(by_layer), {})
    ranks = bytes(row.rank for row in by_layer.layers)
    assert called == ['/a"b\n.elm', 4, "infer", "/adapter.ela", "/rom/har.elm", ranks, "infer", "/adapter.ela"]


def test_page_escapes_text() -> None:
    report = example(
        labels=[HOSTILE] * 6,
        title=HOSTILE,
        subject=HOSTILE,
        board=HOSTILE,
        firmware=HOSTILE,
        notes=[HOSTILE],
        base_id=HOSTILE,
        mode=HOSTILE,
        created=HOSTILE,
        power_source=HOSTILE,
        link={HOSTILE: HOSTILE},
    )
    report.layers[0].kind = HOSTILE
    report.memory[0] = dataclasses.replace(report.memory[0], name=HOSTILE)
    html = render_html(report)
    page = Page(html)
    assert "<script" not in html
    assert page.text.count(HOSTILE) >= 6 * 4 + 10


@pytest.mark.parametrize(("losses", "epochs"), [([0.0] * 4, 2), ([math.nan, 1.0, math.inf], 1), ([0.5] * 5000, 100)])
def test_odd_losses_can_be_drawn(losses: list[float], epochs: int) -> None:
    report = example(losses=losses, steps=len(losses), epochs=epochs, epoch_losses=losses[:2], float_lora_losses=[])
    html = render_html(Report.from_json(report.to_json()))
    drawn = [value for _, attributes in Page(html).tags for value in attributes.values() if value]
    assert not [value for value in drawn if re.search(r"\b(nan|inf)\b", value)]


def test_perfect_base_and_untested_class() -> None:
    counts = [[3, 0], [0, 0]]
    Page(
        render_html(
            example(base_accuracy=1.0, adapted_accuracy=1.0, labels=[], confusion_base=counts, confusion_adapted=counts)
        )
    )


KNOWN_TAGS = {tag for tag, _ in Page(render_html(example())).tags}
MARKUP = (
    '"><script>alert(1)</script>',
    "<img src=x onerror=alert(1)>",
    "' onload='x",
    "</title><b>",
    "{{ 7 * 7 }}",
    "&lt;",
)
ODD = (
    *MARKUP,
    None,
    True,
    -1,
    0,
    1,
    0.5,
    1e308,
    -1e-320,
    1 << 60,
    10**400,
    math.nan,
    math.inf,
    "",
    "\ud800",
    [],
    {},
    [[]],
)
ODD += ({"a": 1}, [None] * 3, [MARKUP[0]] * 3, [0] * 300, [[1, 2], [3]], list(range(5000)))


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths in JSON at which a value can be changed."""
    yield path
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield from places(data[key], (*path, key))


def changed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The same data with another value at the path."""
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = changed(copy[path[0]], path[1:], value)
    return copy


def check_record(data: Any) -> bool:
    """Whether a record is accepted: it is refused in one line with the file's name, or its page has only its own
    markup."""
    try:
        report = Report.from_json(json.dumps(data), "odd.json")
    except ReportError as error:
        assert str(error).startswith("odd.json") and "\n" not in str(error) and len(str(error)) < 400
        return False
    html = render_html(report)
    html.encode()
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= KNOWN_TAGS
    assert not any(name.startswith("on") or name == "src" for _, attributes in page.tags for name in attributes)
    assert "<script" not in html and "<img" not in html
    drawn = [value for _, attributes in page.tags for value in attributes.values() if value]
    assert not [value for value in drawn if re.search(r"\b(nan|inf)\b", value)]
    return True


@pytest.mark.parametrize("run", [example(), of_values()], ids=["classes", "values"])
def test_any_value_anywhere_is_refused_or_shown_as_text(run: Report) -> None:
    """Every field with every kind of odd value, numbers as well as strings."""
    data = json.loads(run.to_json()) | {"losses": [0.5] * 3, "epoch_losses": [0.5] * 2, "float_lora_losses": [0.4]}
    data["memory"], data["layers"], data["energy"] = data["memory"][:2], data["layers"][:2], data["energy"][:2]
    if run.confusion_base:
        data["confusion_base"] = data["confusion_adapted"] = [[3, 1], [0, 4]]
    else:
        data["float_lora_losses"] = []
    odd = itertools.cycle(random.Random(fresh.SEED).sample(ODD, len(ODD)))  # a place gets other values in other runs
    tried = [
        check_record(changed(data, path, value))
        for path in places(data)
        for value in itertools.islice(odd, fresh.rounds(len(ODD)) + 1)
    ]
    assert len(tried) > 500 and 0.1 < sum(tried) / len(tried) < 0.9


@pytest.mark.parametrize("key", ["seed", "rank", "epochs", "samples", "micro_batch", "steps", "memory_steps"])
def test_numbers_are_numbers(key: str) -> None:
    data = json.loads(example().to_json())
    for value in (HOSTILE, None, True, 1.5, -1, 1 << 60, [1]):
        with pytest.raises(ReportError, match=rf"report\.json, {key}: "):
            Report.from_json(json.dumps(data | {key: value}))


@pytest.mark.parametrize("seed", [1, None])
def test_many_oddities_at_once(seed: int | None) -> None:
    seed = random.randrange(1 << 32) if seed is None else seed
    print("seed", seed)  # shown on failure
    rng = random.Random(seed)
    whole = json.loads(example().to_json())
    where = list(places(whole))[1:]
    for _ in range(200):
        data = whole
        for path in rng.sample(where, rng.randint(1, 4)):
            with contextlib.suppress(KeyError, IndexError, TypeError):  # its container has already been replaced
                data = changed(data, path, rng.choice(ODD))
        check_record(data)


# --- Files ---


def test_write_report(tmp_path: Path) -> None:
    report = example()
    page = write_report(report, tmp_path / "new" / "run")
    assert page == tmp_path / "new" / "run" / "report.html"
    assert sorted(file.name for file in page.parent.iterdir()) == ["report.html", "report.json"]
    assert page.read_text() == render_html(report)
    assert Report.from_json(page.with_name("report.json").read_bytes()) == report


def test_json_is_flat_and_round_trips() -> None:
    report = example(losses=[np.float32(0.5), 1.0])
    data = json.loads(report.to_json())
    assert data["board"] == "virtual-pico" and data["host_twin_identical"] is True and data["memory"][0]["op"] == -1
    assert Report.from_json(json.dumps({**data, "of_later": 1})) == report
    assert json.loads(example(losses=[math.nan]).to_json())["losses"] == [None]


def test_json_errors_name_the_cause() -> None:
    data = json.loads(example().to_json())
    del data["rank"], data["mode"]
    with pytest.raises(ReportError, match="rank, mode missing"):
        Report.from_json(json.dumps(data))
    data |= {"rank": 4, "mode": "frozen_a", "memory": [{"op": 1}]}
    with pytest.raises(ReportError, match=r"memory\[0\]: name, offset"):
        Report.from_json(json.dumps(data))
    for text in ("[]", "{", ""):
        with pytest.raises(ReportError, match="report.json"):
            Report.from_json(text)


# --- Metrics ---


def test_metrics_survive_a_killed_run(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    with Metrics(path) as metrics:
        metrics.update(1, 1, np.float64(0.5), 6000, 8, 1200, 0.0001)
        assert len(read_metrics(path)) == 1
        metrics.write("done", note="é")
    *whole, end = read_metrics(path)
    assert end == {"event": "end", "state": "done"}
    assert whole[0] == {
        "event": "update",
        "step": 1,
        "epoch": 1,
        "loss": 0.5,
        "learning_rate": 6000,
        "samples": 8,
        "us": 1200,
        "joules": 0.0001,
    }
    with path.open("ab") as file:
        file.write(b'{"event": "upd')
    assert read_metrics(path) == [*whole, end]
    with pytest.raises(KeyboardInterrupt), Metrics(path) as metrics:
        metrics.write("again")
        raise KeyboardInterrupt
    assert read_metrics(path) == [*whole, end, {"event": "again"}, {"event": "end", "state": "stopped"}]


def test_damaged_metrics_are_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"event": "a"}\nnot json\n{"event": "b"}\n')
    with pytest.raises(ReportError, match="line 2"):
        read_metrics(path)


# --- The page of a plan ---


def test_plan_page_marks_the_choice(tmp_path: Path) -> None:
    """Even if the choice is not on the frontier; the table stays sorted by gain."""
    model = random_model(13, "medium", ("conv", "mean", "dense"))
    result = plan(pack_model(model), load_board("rpi_pico"), Recipe(seed=1))
    count = len(model.ops)
    ranked = [Recipe(given_ranks=bytes([rank] * count)) for rank in (1, 2, 4)]
    frontier = tuple(Candidate(recipe, 0.1 * i, 4096 * i, 100 * i) for i, recipe in enumerate(ranked, 1))
    measured = Sensitivity("ablation", "frozen_a", {0: {1: 0.1}})
    for chosen in (frontier[1], Candidate(ranked[1], 0.2, 4000, 200, (1,) * count), frontier[2]):
        choice = Choice(Budget(16384, 500), chosen, None, frontier, (measured,))
        write_plan_report(tmp_path / "plan.html", choice, result, "har.elm", "har:3")
        html = (tmp_path / "plan.html").read_text()
        [marked] = re.findall(r'<tr class="marked">(.*?)</tr>', html, re.DOTALL)
        assert "(the choice)" in marked and f"{chosen.arena_bytes:,}" in marked and f"{chosen.gain:.4f}" in marked
        assert Page(html).text.count("(the choice)") == 1
        gains = [float(gain) for gain in re.findall(r"<td>(0\.\d{4})</td>", html)]
        assert len(gains) == 3 and gains == sorted(gains)

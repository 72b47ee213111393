"""What a reader does, in a real browser: open a notebook, run it, move a slider by keyboard, see the picture follow.

The notebooks are small ones made here and every chapter in `notebooks/` that shows an explorer, in temporary copies that
end with the first of them: the rest of the chapter is run by nbval, in tests/notebooks.
"""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmcourse.viz.explorers import EXPLORERS
from gmcourse.viz.explorers.landscape import mixture_landscape

pytestmark = pytest.mark.browser

IDLE = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
ERROR = '[data-mime-type="application/vnd.jupyter.error"]'
PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')].map(p => p.textContent)"
KERNEL = ".jp-NotebookPanel .jp-KernelName"
MINUTE = 60_000


def notebook(*sources: str, outputs: list | None = None) -> dict:
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{k}",
            "execution_count": None,
            "metadata": {},
            "outputs": outputs or [],
            "source": source,
        }
        for k, source in enumerate(sources)
    ]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}


def chapters() -> list[Path]:
    """The course's notebooks that show an explorer."""
    folder = Path(__file__).parents[2] / "notebooks"
    return [path for path in sorted(folder.glob("*.ipynb")) if any(map(shows_explorer, read(path)["cells"]))]


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def shows_explorer(cell: dict) -> bool:
    return cell["cell_type"] == "code" and bool(re.search(rf"\b({'|'.join(EXPLORERS)}|Explorer)\(", "".join(cell["source"])))


def up_to_first_explorer(path: Path) -> dict:
    chapter = read(path)
    first = next(k for k, cell in enumerate(chapter["cells"]) if shows_explorer(cell))
    return chapter | {"cells": chapter["cells"][: first + 1]}


def open_notebook(page, link: str) -> None:
    page.goto(link)
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    page.locator(IDLE).wait_for(timeout=2 * MINUTE)
    # On a cold start the notebook may come before Lab has its list of kernels; then it asks which one to take.
    kernel, question = page.locator(KERNEL).first, page.locator(".jp-Dialog button.jp-mod-accept")
    for _ in range(60):
        if question.count():
            question.first.click()
        if "Python 3" in kernel.inner_text():
            return
        page.wait_for_timeout(1000)
    raise AssertionError("the notebook got no kernel within a minute")


def run_all(page, minutes: float = 5) -> None:
    for _ in range(20):  # Lab shows "idle" before it is connected, and forgets what it is told then
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(500)
        if page.evaluate(f"{PROMPTS}.some(text => /\\[[\\d*]+\\]/.test(text))"):
            break
        page.wait_for_timeout(1500)
    ended = f"document.querySelector('{ERROR}') || {PROMPTS}.every(text => /\\[\\d+\\]/.test(text))"
    page.wait_for_function(ended, timeout=minutes * MINUTE)
    assert page.locator(ERROR).count() == 0, page.locator(ERROR).first.inner_text()
    page.locator(IDLE).wait_for()


def explorer_in(page, nth: int = 0):
    """The output that holds controls and a picture, its first slider's handle (without one: its list), the picture."""
    outputs = page.locator(".jp-OutputArea-output").filter(has=page.locator("img.widget-image"))
    output = outputs.filter(has=page.locator(".noUi-handle, select")).nth(nth)
    output.wait_for()
    sliders, lists = output.locator(".noUi-handle"), output.locator("select")
    return output, (sliders if sliders.count() else lists).first, output.locator("img.widget-image")


def press_and_wait(page, handle, picture, presses: int) -> None:
    """Press → several times (← at the end; of a list take the next); wait until another picture stays for half a second."""
    before, end = picture.get_attribute("src"), handle.get_attribute("aria-valuemax")
    if handle.evaluate("element => element.tagName") == "SELECT":
        chosen, count = handle.evaluate("list => [list.selectedIndex, list.length]")
        handle.select_option(index=(chosen + 1) % count)
    else:
        key = "ArrowLeft" if end == handle.get_attribute("aria-valuenow") else "ArrowRight"
        handle.focus()
        for _ in range(presses):
            page.keyboard.press(key)
    page.wait_for_function(
        """([image, before]) => {
            const now = performance.now();
            if (window.lastSource !== image.src) { window.lastSource = image.src; window.since = now; }
            return image.src !== before && now - window.since > 500;
        }""",
        arg=[picture.element_handle(), before],
    )


def shown(page, picture) -> np.ndarray:
    """The pixels of an <img>."""
    data = page.evaluate(
        """async image => {
            const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
            return btoa(Array.from(bytes, b => String.fromCharCode(b)).join(""));
        }""",
        picture.element_handle(),
    )
    return pixels(base64.b64decode(data))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png))).astype(float)


def test_a_slider_moves_the_picture(lab, page, screenshots):
    source = "from gmcourse.viz.explorers.landscape import mixture_landscape\nmixture_landscape()"
    open_notebook(page, lab.add("landscape.ipynb", notebook(source)))
    run_all(page)
    output, handle, picture = explorer_in(page)
    page.screenshot(path=screenshots / "landscape-before.png")
    press_and_wait(page, handle, picture, presses=10)
    page.screenshot(path=screenshots / "landscape-after.png")
    start = mixture_landscape().controls["sigma"].value
    assert output.locator(".widget-readout").inner_text() == f"{start + 0.1:.2f}"
    expected = pixels(mixture_landscape().picture(sigma=start + 0.1))
    assert np.abs(shown(page, picture) - expected).mean() < 0.5
    box = picture.bounding_box()
    assert (box["height"], box["width"]) == expected.shape[:2]  # one pixel of the picture is one of the page


def test_on_a_narrow_page_the_caption_is_not_cut_off(lab, page, screenshots):
    source = "from gmcourse.viz.explorers.landscape import mixture_landscape\nmixture_landscape()"
    open_notebook(page, lab.add("narrow.ipynb", notebook(source)))
    run_all(page)
    page.set_viewport_size({"width": 700, "height": 900})  # only now: Lab hides its indicator on such a page
    output, _, picture = explorer_in(page)
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots / "narrow.png")
    right = output.bounding_box()["x"] + output.bounding_box()["width"]
    assert picture.bounding_box()["width"] < pixels(mixture_landscape().picture()).shape[1]  # narrow indeed
    words = output.locator(".widget-html p").bounding_box()
    assert words["x"] + words["width"] <= right + 1


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_a_chapter_runs_and_its_first_slider_moves_the_picture(lab, page, screenshots, path):
    open_notebook(page, lab.add(path.name, up_to_first_explorer(path)))
    run_all(page)
    output, handle, picture = explorer_in(page)
    output.scroll_into_view_if_needed()
    press_and_wait(page, handle, picture, presses=10)
    page.screenshot(path=screenshots / f"{path.stem}.png")


def test_pointing_at_a_mark_of_the_scoreboard_shows_its_samples_and_numbers(lab, page, screenshots):
    """And only while the pointer is there; without a script. The disc lies on the mark: the picture has its colour there."""
    source = """
from gmcourse.data import toy2d
from gmcourse.metrics.scoreboard import Board, Row
from gmcourse.viz.explorers import trilemma
rows, x = [], toy2d.get("gaussians25").sample((500,))
for k, family in enumerate(("VAE", "flow", "EBM", "diffusion", "GAN")):
    cost = {"steps": 9, "seconds": 30.0, "parameters": 5, "nfe": 1, "ms_per_1000": 3.0**k, "w2": 0.1 * (k + 1)}
    rows.append(Row(f"{family}_gaussians25", family, "gaussians25", 0, **cost, likelihood="none", gap_kind="n/a"))
trilemma(Board(rows, {row.key: x for row in rows}))
"""
    open_notebook(page, lab.add("hover.ipynb", notebook(source)))
    run_all(page)
    picture, discs = page.locator("img.widget-image"), page.locator(".gmcourse-hotspot")
    picture.scroll_into_view_if_needed()
    assert discs.count() == 5
    still, corner = Image.fromarray(shown(page, picture).astype(np.uint8)), picture.bounding_box()
    for disc in discs.all():
        box, says = disc.bounding_box(), disc.locator("> div")
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        red, green, blue = still.getpixel((round(middle[0] - corner["x"]), round(middle[1] - corner["y"])))
        assert min(red, green, blue) < 200  # a mark is there, not paper
        assert not says.is_visible()
        page.mouse.move(*middle)
        assert says.is_visible() and says.locator("img").bounding_box()["width"] == 120
        assert "W₂: " in says.inner_text()
        page.screenshot(path=screenshots / f"hover-{says.inner_text().split()[0]}.png")
        page.mouse.move(5, 5)
        assert not says.is_visible()
    before = discs.first.get_attribute("style")
    _, first, picture = explorer_in(page)
    press_and_wait(page, first, picture, presses=1)
    assert discs.count() == 5 and discs.first.get_attribute("style") != before


def test_moves_that_come_too_fast_are_dropped_but_never_the_last(lab, page):
    """The picture itself tells: its first pixel is the slider's value, its second the number of pictures computed."""
    slow = """
import time
import numpy as np
from gmcourse.viz import Explorer, Slider
count = 0
def compute(k):
    global count
    count += 1
    time.sleep(0.3)
    return np.full((20, 20), count, np.uint8), k
def draw(ax, data):
    page, k = data
    page[0, 0] = k
    return page
Explorer(compute, draw, {"k": Slider(0, 100, 1, 0)})
"""
    open_notebook(page, lab.add("slow.ipynb", notebook(slow)))
    run_all(page)
    _, handle, picture = explorer_in(page)
    press_and_wait(page, handle, picture, presses=30)
    page.wait_for_timeout(1000)
    image = shown(page, picture)
    assert image[0, 0] == 30
    assert image[1, 1] < 20


@pytest.mark.parametrize("widget_view", [True, False], ids=["as saved by a kernel", "as built"])
def test_a_notebook_that_was_not_run_shows_a_still_picture(lab, page, screenshots, widget_view):
    explorer = mixture_landscape()
    data = explorer._repr_mimebundle_()
    if not widget_view:
        del data["application/vnd.jupyter.widget-view+json"]
    output = {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data}
    name = f"still-{widget_view}.ipynb"
    open_notebook(page, lab.add(name, notebook("mixture_landscape()", outputs=[output])))
    picture = page.locator(".jp-OutputArea-output img")
    picture.wait_for()
    page.screenshot(path=screenshots / name.replace(".ipynb", ".png"))
    assert (shown(page, picture) == pixels(explorer.picture())).all()

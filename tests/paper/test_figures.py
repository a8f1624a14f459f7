"""What the figures show holds in the numbers that they are drawn from; and every one is a picture."""

import csv
import functools
import runpy
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from guides import ROOT
from PIL import Image

from xql_jax.workshop.paper.columns import unique, where
from xql_jax.workshop.paper.figures import FIGURES, write_figure


@functools.cache
def tables(name):
    return FIGURES[name].compute(0)


@pytest.mark.slow
def test_figure_2_regresses_to_the_exact_values():
    rows = tables("2")["regression"]
    inner = np.abs(rows["x"]) < 1.9  # a network has no data beyond the ends
    error = np.abs(rows["fitted"] - rows["exact"])[inner]
    assert error.mean() < 0.03  # of a variable between -2 and 2
    assert error.max() < 0.25


@pytest.mark.slow
def test_figure_4_fits_are_exact_and_a_smaller_beta_is_nearer_to_the_maximum():
    """Lemma 3.1; the figure's caption has it the other way round."""
    values, paths = tables("4")["values"], tables("4")["paths"]
    np.testing.assert_allclose(values["fitted"], values["exact"], atol=0.005)
    methods = unique(values["method"])
    maximum = where(values, method="exact maximum")["exact"]
    distances = [np.abs(where(values, method=method)["fitted"] - maximum).mean() for method in methods]
    assert (np.diff(distances) < 0).all()
    for method in methods[-2:]:
        path = where(paths, method=method)
        assert (path["row"][-1], path["column"][-1]) == (1, 1)  # the goal


def test_the_picture_of_gumbel_waves_agrees_with_theory():
    made = runpy.run_path(str(ROOT / "docs/site/gumbel_waves.py"))["compute_error_waves"](0)
    wave = made["wave"]
    np.testing.assert_allclose(wave["simulated_deviation"], wave["exact_deviation"], atol=0.03)
    for step in range(5):
        rows = where(wave, step=step)
        assert rows["state"][rows["exact_deviation"].argmax()] == 1 + step  # it runs to the parents
    deviations = made["deviations"]
    np.testing.assert_allclose(deviations["simulated"], deviations["exact"], rtol=0.03)
    means = made["means"]
    np.testing.assert_allclose(means["shuffled"], means["eq_26"], atol=0.02)
    assert means["eq_25"][8] < 0.5 * means["eq_26"][8]  # successors are shared: Eq. 26 does not hold


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_writes_its_picture_and_its_tables(name, tmp_path):
    figure = FIGURES[name].draw(tables(name))
    picture, drawing, *paths = write_figure(name, tmp_path, tables(name), figure, ("png", "svg"))
    assert ElementTree.parse(drawing).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    with Image.open(picture) as image:
        assert min(image.size) > 500
    for path, table in zip(paths, tables(name).values(), strict=True):
        header, *rows = csv.reader(path.read_text("utf-8").splitlines())
        assert header == list(table)
        for column, values in zip(zip(*rows, strict=True), table.values(), strict=True):
            if values.dtype.kind == "f":
                np.testing.assert_allclose(np.array(column, float), values, rtol=1e-8, atol=1e-300)

"""The report as it is read: each number leads to its run, nothing leads out, names are never obeyed."""

import csv
import html.parser
import importlib
import io

import pytest
from written_runs import COMMIT, write_run

from xql_jax.errors import UserError
from xql_jax.reports.report import Report, check_installed
from xql_jax.runs.reporting import RunFinder

EVIL = "x\"'><img src=q onerror=alert(1)>&{{7*7}}</script>"
FILES = {"scores.csv", "statistics.csv", "runs.csv", "scores.tex"}
VOID = {"meta", "link", "input", "br", "img", "path", "circle"}


class Elements(html.parser.HTMLParser):
    """What a page is made of: elements with their attributes and text, in order; tags must match."""

    def __init__(self, page):
        super().__init__()
        self.all, self._open = [], []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", **dict(attributes)}
        self.all.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.all.append({"tag": tag, "text": "", **dict(attributes)})

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def of(self, tag):
        return [element for element in self.all if element["tag"] == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two methods on two datasets of the paper, a sweep with a diverged member, a return, and damage."""
    root = tmp_path_factory.mktemp("results")
    for task, base in (("kitchen-complete-v0", 60.0), ("pen-human-v0", 40.0)):
        write_run(root, task, "iql", {seed: [1.0, base + seed] for seed in range(3)})
        for seed in range(8):
            write_run(root, task, "bc", {seed: [99.0, base / 2 + seed]})
    swept = {(seed, beta): [5.0, 10 * beta + seed] for seed in range(2) for beta in (0.5, 2.0)}
    write_run(root, "kitchen-complete-v0", "xql", swept, swept=["beta"], diverged=[(1, 0.5)], beta=1.0)
    write_run(root, "Hopper-v5", "sac", {0: [1234.5]})
    (write_run(root, "pen-human-v0", "xql", {0: [1.0]}) / "summary.json").write_text("{")
    return root


def report_of(folder):
    finder = RunFinder([str(folder)])
    return Report(finder.find(), finder.title, samples=200)


@pytest.fixture(scope="module")
def report(folder):
    return report_of(folder)


@pytest.fixture(scope="module")
def page(report):
    return Elements(report.page("Made by hand."))


def rows_of(page_text, caption):
    """The texts of a table's cells, row by row."""
    table = page_text.split(f"<caption>{caption}")[1].split("<tbody>")[1].split("</tbody>")[0]
    return [
        [
            " ".join(element["text"].split())
            for element in Elements(f"<tr>{row}").all
            if element["tag"] in ("th", "td")
        ]
        for row in table.split("<tr>")[1:]
    ]


def test_every_score_stands_in_the_table_with_the_papers(report):
    rows = rows_of(report.page(""), "Scores by dataset and method")
    # 60, 61 and 62: t(0.975, 2) / sqrt(3) = 2.484 to either side. The paper's is that of Table 1.
    by_place = {tuple(row[:2]): row[2:] for row in rows}
    assert by_place["kitchen-complete-v0", "iql"][:5] == ["61.0 ± 2.5", "61.0", "62.5", "3", "2,000"]
    assert by_place["kitchen-complete-v0", "iql"][5] == "60.0, 61.0, 62.0"
    assert by_place["kitchen-complete-v0", "bc"][:4] == ["33.5 ± 2.0", "99.0", "65.0", "8"]
    assert by_place["kitchen-complete-v0", "xql beta=0.5"][3] == "2 1 diverged"
    assert by_place["Hopper-v5", "sac"][:3] == ["1234.5", "1234.5", "–"]
    assert len(rows) == 7


def test_every_link_leads_to_a_place_on_the_page(page):
    ids = [element["id"] for element in page.all if "id" in element]
    assert len(ids) == len(set(ids))
    links = [element["href"] for element in page.of("a")]
    assert {link for link in links if not link.startswith("#")} == FILES
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert len(links) > 60


def test_a_score_leads_to_the_run_that_it_comes_from(report, page):
    name_of = {element["id"]: element["text"] for element in page.of("details") if "id" in element}
    assert len(name_of) == len(report.runs) == 20
    leads = [element for element in page.of("a") if element["text"] == "61.0"]
    assert leads
    for lead in leads:
        details = name_of[lead["href"][1:]]
        assert "kitchen-complete-v0/iql/seeds0-2_" in details
        for part in (
            COMMIT,
            "mujoco 3.8.1",
            "jax 0.10.2",
            "a processor",
            "61 min" if False else "1 h 01 min",
        ):
            assert part in details
        assert "config.tau = 0.005" in details


def test_the_page_needs_nothing_from_elsewhere(report, page):
    for element in page.all:
        for attribute in ("src", "srcset", "action", "data", "background", "poster"):
            assert attribute not in element
        assert element.get("href", "#")[:1] in "#" or element["href"] in {*FILES, "data:,"}
    text = report.page("").replace("http-equiv", "")
    assert "http:" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in text
    assert "@import" not in text
    assert "url(" not in text


def test_every_picture_has_words_for_it(page):
    charts = [element for element in page.of("svg") if element.get("class") == "chart"]
    assert len(charts) == 20 + 3 + 1 + 1  # runs, learning curves, sensitivity, profiles
    assert all(element["role"] == "img" and element["aria-label"] for element in charts)
    assert all(element["aria-hidden"] == "true" for element in page.of("svg") if element not in charts)
    (beta,) = [
        element for element in charts if "xql on kitchen-complete-v0 against beta" in element["aria-label"]
    ]
    assert "which is 0.5, 2; means from 5.5 to 20.5" in beta["aria-label"]


def test_what_is_shown_is_never_obeyed(tmp_path):
    write_run(tmp_path, EVIL.replace("/", "%"), EVIL, {0: [1.0, 2.0]}, content={"note": EVIL}, odd=EVIL)
    broken = write_run(tmp_path, "pen-human-v0", EVIL.replace("/", "%"), {0: [1.0]})
    (broken / "config.json").write_text(f'{{"a": "{EVIL}"')
    page = Elements(report_of(tmp_path).page(EVIL, is_live=True))
    assert page.of("img") == []
    assert len(page.of("script")) == 1
    assert not [element for element in page.all if any(name.startswith("on") for name in element)]
    assert EVIL in "".join(element["text"] for element in page.of("header"))
    assert not [element for element in page.all if "49" in element["text"] and "x\"'>" in element["text"]]


def test_statistics_are_over_what_can_be_compared(report):
    statistics = report.statistics
    assert list(statistics.datasets) == ["kitchen-complete-v0", "pen-human-v0"]
    assert [(aggregate.method, aggregate.seeds) for aggregate in statistics.aggregates] == [
        ("iql", 3),
        ("bc", 8),
    ]
    assert statistics.aggregates[0].mean.value == 51.0  # of 61 and 41
    assert statistics.improvements[0].probability.value == 1.0
    reasons = {item.run: item.reason for item in report.not_compared}
    assert reasons == {
        "sac on Hopper-v5": "its score is the return itself: no expert's return is known",
        "xql beta=0.5 on kitchen-complete-v0": "the method has no score on pen-human-v0",
        "xql beta=2 on kitchen-complete-v0": "the method has no score on pen-human-v0",
    }


def test_csv_and_latex_have_the_same_numbers(report):
    files = report.files("a page")
    assert files["index.html"] == "a page"
    scores = list(csv.DictReader(io.StringIO(files["scores.csv"])))
    iql = next(row for row in scores if row["method"] == "iql" and row["dataset"] == "kitchen-complete-v0")
    assert (iql["last_score"], iql["best_score_by_seed"], iql["paper_score"]) == ("61", "60 61 62", "62.5")
    runs = {row["run"]: row for row in csv.DictReader(io.StringIO(files["runs.csv"]))}
    assert runs[iql["run"]]["commit"] == COMMIT
    assert runs[iql["run"]]["wall_clock_seconds"] == "3660"
    statistics = list(csv.DictReader(io.StringIO(files["statistics.csv"])))
    mean = next(row for row in statistics if (row["statistic"], row["method"]) == ("mean", "iql"))
    assert (mean["value"], mean["seeds"]) == ("51", "3")
    assert "61.0 $\\pm$ 2.5 [62.5]" in files["scores.tex"]
    assert files["scores.tex"].count("\\begin{tabular}") == 2


def test_what_is_damaged_is_listed(report, page):
    (left_out,) = report.left_out
    assert "summary.json: damaged: it is not JSON" in left_out.reason
    assert [cell for cell in page.of("td") if cell["text"] == left_out.reason]


def test_a_report_of_nothing_is_a_page(tmp_path):
    report = report_of(tmp_path)
    text = Elements(report.page("")).all[0]["text"]
    assert "Nothing has been evaluated yet" in text
    assert report.files("")["scores.csv"].startswith("dataset,method")
    write_run(tmp_path, "pen-human-v0", "bc", {0: [None]})  # a run, but no evaluation
    assert "nothing was evaluated" in Elements(report_of(tmp_path).page("")).all[0]["text"]


def test_names_that_are_no_text_are_shown_somehow(tmp_path):
    run = write_run(tmp_path, "pen-human-v0", "bc", {0: [1.0]})
    run.rename(run.with_name("b\udcff"))
    page = report_of(tmp_path).page("")
    assert b"b\\udcff" in page.encode(errors="backslashreplace")


def test_what_is_not_installed_is_named(monkeypatch):
    def without(name):
        raise ImportError(f"No module named {name!r}")

    check_installed()
    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(UserError, match=r"reports need rliable .*: pip install 'xql_jax\[report\]'"):
        check_installed()

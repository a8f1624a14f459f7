"""What the pictures draw: means and intervals by hand, who diverged, and what is left out of many."""

import math

import pytest
from members import member

from xql_jax.reports import pictures
from xql_jax.reports.pictures import learning_curves, run_picture, sensitivity
from xql_jax.reports.results import FINE_TUNED, ONLINE, scores_of


@pytest.fixture
def charts(monkeypatch):
    """The charts themselves, as they are drawn."""
    drawn = []
    monkeypatch.setattr(pictures, "as_svg", lambda chart: drawn.append(chart) or "")
    return drawn


def scores(*members):
    return scores_of(members)[0]


def test_a_learning_curve_is_the_mean_with_students_interval(charts):
    # The scores are 2, 3 and 4. The mean is 3, and t(0.975, 2) / sqrt(3) = 2.484138 to either side.
    (picture,) = learning_curves(scores(member(0, 2.0, 7.0), member(1, 3.0, 7.0), member(2, 4.0, 7.0)))
    mean, *seeds = charts[0].lines
    assert mean.points == [(10, 3.0), (20, 7.0)]
    assert mean.band == [
        (10, pytest.approx(3 - 2.484138), pytest.approx(3 + 2.484138)),
        (20, 7.0, 7.0),
    ]
    assert [line.points for line in seeds] == [[(10, 2.0 + n), (20, 7.0)] for n in range(3)]
    assert all(line.is_thin and line.style == mean.style for line in seeds)
    assert (picture.heading, picture.legend) == ("kitchen-complete-v0", [(0, "xql")])
    assert (charts[0].x_label, charts[0].y_label) == ("updates", "normalised score")


def test_where_seeds_differ_in_their_steps_the_mean_is_over_those_that_all_have(charts):
    learning_curves(scores(member(0, 2.0, 7.0, 9.0), member(1, 4.0, 9.0)))
    assert charts[0].lines[0].points == [(10, 3.0), (20, 8.0)]


def test_many_methods_are_the_best_of_them_without_bands(charts):
    methods = [
        member(seed, 0.0, float(number), run={"algorithm": f"m{number}", "name": f"{number}-{seed}"})
        for number in range(20)
        for seed in range(2)
    ]
    (picture,) = learning_curves(scores(*methods))
    assert sorted(line.points[-1][1] for line in charts[0].lines) == list(range(8, 20))
    assert all(not line.band and not line.is_thin for line in charts[0].lines)
    assert len({line.style for line in charts[0].lines}) == 12
    assert picture.notes == ["The 12 best of 20 methods."]


def test_phases_have_pictures_of_their_own(charts):
    found = scores(
        member(0, 1.0, 2.0),
        member(0, 1.0, 2.0, run={"phase": ONLINE, "algorithm": "sac", "name": "b", "unit": "step"}),
        member(0, 1.0, 2.0, run={"phase": FINE_TUNED, "name": "c", "unit": "step", "handover": 10}),
    )
    headings = [picture.heading for picture in learning_curves(found)]
    assert headings == [f"kitchen-complete-v0{ending}" for ending in (", online", "", ", fine-tuned")]
    assert [chart.divider for chart in charts] == [None, None, 10]
    assert charts[2].x_label == "updates, then steps"


def test_a_method_has_its_style_on_all_datasets(charts):
    found = scores(
        member(0, 1.0, run={"algorithm": "iql"}),
        member(0, 1.0),
        member(0, 1.0, run={"dataset": "pen-human-v0"}),
    )
    legends = {picture.heading: dict(map(reversed, picture.legend)) for picture in learning_curves(found)}
    assert legends["kitchen-complete-v0"]["xql"] == legends["pen-human-v0"]["xql"]
    assert legends["kitchen-complete-v0"]["iql"] != legends["kitchen-complete-v0"]["xql"]


def test_sensitivity_has_every_member_at_its_value_and_the_means(charts):
    found = scores(
        *(
            member(seed, 10 * beta + seed, beta=beta, diverged=(beta, seed) == (0.5, 1))
            for beta in (2.0, 0.5, 10.0)
            for seed in (0, 1)
        )
    )
    (picture,) = sensitivity(found)
    (chart,) = charts
    assert list(chart.categories) == ["0.5", "2", "10"]  # by size, not by letters
    assert [(mark.x, mark.y, mark.is_cross) for mark in sorted(chart.marks, key=lambda mark: mark.y)] == [
        (0, 5, False), (0, 6, True), (1, 20, False), (1, 21, False), (2, 100, False), (2, 101, False),
    ]  # fmt: skip
    assert chart.lines[0].points == [(0, 5.5), (1, 20.5), (2, 100.5)]
    assert picture.heading == "xql on kitchen-complete-v0: beta"
    assert picture.notes == ["Diverged (crosses), by beta: 0.5: 1 of 2."]


def test_sensitivity_says_who_was_not_trained_to_the_end(charts):
    cut = {"name": "b", "status": "interrupted"}
    (picture,) = sensitivity(
        scores(member(0, 1.0, 2.0, beta=1), member(0, 1.0, beta=2, run=cut, finished=False))
    )
    assert picture.notes == ["None diverged.", "1 of 2 members were not trained to the end."]
    assert [mark.y for mark in charts[0].marks] == [2.0, 1.0]


def test_a_line_joins_what_differs_in_the_one_setting_alone(charts):
    found = scores(
        member(0, 1.0, beta=1, tau=0.1), member(0, 2.0, beta=2, tau=0.1),
        member(0, 3.0, beta=1, tau=0.2), member(0, 4.0, beta=2, tau=0.2), member(0, 9.0, beta=3, tau=0.3),
    )  # fmt: skip
    by_heading = dict(zip([picture.heading for picture in sensitivity(found)], charts, strict=True))
    beta = by_heading["xql on kitchen-complete-v0: beta"]
    assert [[y for _, y in line.points] for line in beta.lines] == [[1, 2], [3, 4]]  # tau=0.3 has one value
    tau = by_heading["xql on kitchen-complete-v0: tau"]
    assert [[y for _, y in line.points] for line in tau.lines] == [[1, 3], [2, 4]]


def test_what_was_not_swept_is_no_sensitivity(charts):
    assert sensitivity(scores(member(0, 1.0, beta=1), member(1, 1.0, beta=1))) == []
    other = member(0, 1.0, beta=2, run={"dataset": "pen-human-v0"})
    assert sensitivity(scores(member(0, 1.0, beta=1), other)) == []


def test_scores_that_are_not_finite_break_no_picture(charts):
    found = scores(*(member(seed, math.nan, math.nan, beta=beta) for beta in (1, 2) for seed in (0, 1)))
    assert len(learning_curves(found)) == len(sensitivity(found)) == 1


def test_a_runs_picture_has_its_members_by_setting(charts):
    members = [member(seed, 1.0, float(seed), beta=beta) for beta in (1, 2) for seed in (0, 1)]
    picture = run_picture(members[0].run, members)
    assert [line.style for line in charts[0].lines] == [0, 0, 1, 1]
    assert picture.legend == [(0, "beta=1"), (1, "beta=2")]
    assert run_picture(members[0].run, []) is None
    many = [member(seed, 1.0) for seed in range(100)]
    assert run_picture(many[0].run, many).notes == ["40 of 100 members."]
    assert len(charts[1].lines) == 40

import pytest
from rich.text import Text

from creditlab.sweep.display import Display, duration, safe
from creditlab.sweep.plan import Planned


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [bold]text[/]", "plain [bold]text[/]"),
        ("\x1b[31mred\x1b[0m \x1b[2J\x1b]0;title\x07", "red ]0;title"),
        ("bell\x07 back\x08 return\r c1\x9b31m", "bell back return c131m"),
        ("a\ttab", "a\ttab"),
    ],
)
def test_text_of_others_moves_no_cursor_and_makes_no_markup(text, shown):
    assert Text.from_markup(safe(text)).plain == shown


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(4.4, "4 s"), (89, "89 s"), (150, "2 min"), (3600, "60 min"), (9000, "2.5 h"), (1e6, "11.6 days")],
)
def test_durations(seconds, expected):
    assert duration(seconds) == expected


def test_a_run_that_another_process_took_over_is_shown_in_plain_words(tmp_path, capsys):
    run = Planned({}, tmp_path / "bp-s0", dict)
    with Display("1 run to do", 1, tmp_path) as display:
        display.finished(run, "lost", "")
    shown = capsys.readouterr().err
    assert "[0/1] bp-s0 taken over" in shown
    assert "1 taken over in" in shown
    assert "stopped: 0 of 1 done. The same command resumes from here." in shown
    assert display.counts == {"lost": 1}


def test_an_interrupted_run_is_not_done(tmp_path, capsys):
    interrupted, failed = (Planned({}, tmp_path / name, dict) for name in ("bp-s0", "bp-s1"))
    with Display("3 runs to do", 3, tmp_path) as display:
        display.started(interrupted)
        display.finished(interrupted, "interrupted", "")
        assert display.bar.tasks[0].completed == 0
        assert "per minute" not in display.bar.tasks[0].description
        display.finished(failed, "failed", "out of luck")
        assert display.bar.tasks[0].completed == 1
    shown = capsys.readouterr().err
    assert "[0/3] bp-s0 interrupted" in shown
    assert "[1/3] bp-s1 failed" in shown
    assert "stopped: 1 of 3 done." in shown


def test_a_run_whose_worker_died_before_it_began_waits_again(tmp_path):
    run = Planned({}, tmp_path / "bp-s0", dict)
    with Display("1 run to do", 1, tmp_path) as display:
        display.started(run)
        assert "1 running" in display.bar.tasks[0].description
        display.withdrawn(run)
        assert display.bar.tasks[0].description == ""

import os

import pytest

from creditlab import records
from creditlab.sweep.slurm import queue


def test_submissions_read_back(tmp_path):
    folder = tmp_path / "slurm" / "1"
    folder.mkdir(parents=True)
    arrays = [queue.Array("7", 0, 2), queue.Array("8", 2, 1)]
    queue.Submission(folder, [["a"], ["b", "c"], ["d"]], arrays).write()
    (submission,) = queue.submissions(tmp_path)
    assert dict(submission.jobs()) == {"7_0": ["a"], "7_1": ["b", "c"], "8": ["d"]}
    (folder / "submission.json").write_text("{")
    with pytest.raises(records.RecordError, match=r"Move .* away"):
        queue.submissions(tmp_path)
    assert queue.submissions(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    ("arrays", "tasks"),
    [
        ([queue.Array("7", 0, 10**12)], [["a"]]),  # its tasks would be listed
        ([queue.Array("7", -1, 1)], [["a"]]),
        ([queue.Array(7, 0, 1)], [["a"]]),
        ([queue.Array("7", 0, 1)], [[{}]]),
        ([queue.Array("7", 0, 1)], ["a"]),
    ],
)
def test_a_submission_that_cannot_be_one_is_an_error(tmp_path, arrays, tasks):
    folder = tmp_path / "slurm" / "1"
    folder.mkdir(parents=True)
    queue.Submission(folder, tasks, arrays).write()
    with pytest.raises(records.RecordError, match=r"is not a list of .* Move .* away"):
        queue.submissions(tmp_path)


def test_a_submission_is_read_from_a_regular_file(tmp_path):
    folder = tmp_path / "slurm" / "1"
    folder.mkdir(parents=True)
    (folder / "submission.json").symlink_to("/dev/zero")
    with pytest.raises(records.RecordError, match="is a link, which is not followed"):
        queue.submissions(tmp_path)


def test_submissions_are_in_the_order_of_their_numbers_whatever_the_clock_was(tmp_path):
    for number in (10, 9, 1):
        folder = tmp_path / "slurm" / str(number)
        folder.mkdir(parents=True)
        queue.Submission(folder, [], []).write()
        os.utime(folder / "submission.json", (100 - number, 100 - number))
    assert [submission.folder.name for submission in queue.submissions(tmp_path)] == ["1", "9", "10"]

"""Messages about tables and sequences that do not meet, and about files and layouts that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinmer.clr import REFERENCE_CLR
from kinmer.counting import count_files
from kinmer.errors import InputError, MismatchError, SequenceError, UsageError
from kinmer.layout import check_layout, kmer_layout, profile_layout
from kinmer.library.join import reason_for, refuse_entry_as_header, unmatched
from kinmer.library.metadata import stage_metadata
from kinmer.training import TrainSettings
from kinmer.training.settings import check_original
from tests.hostile_worker import outcome


@pytest.mark.parametrize(
    ("theirs", "ours", "why"),
    [
        ('"s1"', "s1", "quotation marks"),
        ("S1", "s1", "case"),
        ("7", "007", "leading zeros"),
        ("7.0", "7", "fraction"),
        ("GCF_000001.1", "GCF_000001", "versions"),
        ("a.fna.gz", "a", "names of files"),
        ("s1 Vibrio", "s1", "first words"),
        ("x", "y", "is it the table of these"),
    ],
)
def test_ids_of_both_sides_are_shown_with_what_differs(theirs: str, ours: str, why: str) -> None:
    shown, check = reason_for([theirs], [ours], "id")
    assert repr(theirs) in shown
    assert repr(ours) in shown
    assert why in check


def test_commas_and_missing_headers(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,genus\ns1,Vibrio\n")
    staged = stage_metadata(tmp_path / "c.csv", tmp_path / "a.sqlite")
    assert "parted by commas" in str(unmatched(staged, ["s1"], "nothing fits"))
    (tmp_path / "h.tsv").write_text("s1\tVibrio\ns2\tVibrio\n")
    staged = stage_metadata(tmp_path / "h.tsv", tmp_path / "b.sqlite")
    with pytest.raises(InputError, match="no header: its first line is that of 's1'"):
        refuse_entry_as_header(staged, ["s1", "s2"])
    refuse_entry_as_header(staged, ["s3"])


def test_a_file_given_twice_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">a\nACGT\n")
    (tmp_path / "y.fa").symlink_to("x.fa")
    for again in ("x.fa", "y.fa"):
        with pytest.raises(SequenceError, match="given twice"):
            count_files([tmp_path / "x.fa", tmp_path / again], tmp_path / "a.zarr")


def test_what_lacks_in_the_profiles_is_said() -> None:
    with pytest.raises(MismatchError, match="count again with --max-k 6 --coding"):
        check_layout(profile_layout(coding=True), kmer_layout(6))
    check_layout(kmer_layout(6), kmer_layout(6))


def test_the_reference_takes_no_seven_mers() -> None:
    settings = TrainSettings(clr=REFERENCE_CLR)
    with pytest.raises(UsageError, match="2,772 features"):
        check_original(settings, kmer_layout(7))
    check_original(settings, kmer_layout(6))
    check_original(TrainSettings(), kmer_layout(7))


def test_a_group_of_commands_alone_says_what_lacks() -> None:
    code, _, err = outcome(("db",))
    assert code == 2
    assert err == "error: no command is given · see kinmer db --help\n"

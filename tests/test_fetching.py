"""Downloads from a server that behaves as NCBI's and GTDB's do: redirects, ranges, and all that breaks."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinmer.errors import InputError, UsageError
from kinmer.library import transfers
from kinmer.library.downloads import fetch, place_of
from kinmer.library.genomes import GenomeFile, verify_genome
from kinmer.library.packages import find_genomes
from tests.web_server import Page, Web, serving

LENGTH = 300_000
GENOMES = "/genomes/all/GCF/000/005/845/GCF_000005845.2_ASM584v2/GCF_000005845.2_ASM584v2_genomic.fna.gz"


def letters(seed: int, length: int = LENGTH) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, length, dtype=np.uint8).tobytes()


BODY = letters(0)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_PAUSE", 0.005)
    monkeypatch.setattr(transfers, "_BACKOFF", 0.005)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


def asked_for(web: Web, path: str, genome: str = "g", **told: Any) -> GenomeFile:
    return GenomeFile(None, web.url + path, genome, place="m.tsv, line 2", **told)


def whole(folder: Path) -> list[Path]:
    """Files that have their names."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]


def left(folder: Path) -> list[Path]:
    """Files that are parts of a transfer."""
    return [path for path in folder.rglob(".*") if path.is_file() and path.name != ".kinmer-lock"]


def test_redirects_lead_to_the_file_and_the_folder_mirrors_the_url(web: Web, tmp_path: Path) -> None:
    web.pages["/genome"] = Page(redirect="/moved")
    web.pages["/moved"] = Page(redirect=web.url + GENOMES)
    web.pages[GENOMES] = Page(BODY)
    file = asked_for(web, "/genome", md5=md5(BODY).upper(), sha256=sha256(BODY), size=LENGTH)
    (got,) = fetch([file], tmp_path / "new" / "folder")
    assert got.path is not None
    assert got.path.read_bytes() == BODY
    assert got == GenomeFile(got.path, file.url, "g", sha256(BODY), md5(BODY).upper(), LENGTH)
    assert verify_genome(got) == sha256(BODY)
    assert all(agent.startswith("kinmer/") for agent in web.agents)
    (got,) = fetch([asked_for(web, GENOMES)], tmp_path)
    host = web.url.removeprefix("http://")
    assert got.path == tmp_path / host / GENOMES[1:]
    assert [one.genome for one in find_genomes(tmp_path / host)] == ["GCF_000005845.2"]
    assert left(tmp_path) == []


def test_what_is_whole_is_not_asked_for_again(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"], web.pages["/b.fna"] = Page(BODY), Page(BODY[::-1])
    files = [asked_for(web, "/a.fna", "a", md5=md5(BODY)), asked_for(web, "/b.fna", "b")]
    first = list(fetch(files, tmp_path))
    assert list(fetch(files, tmp_path)) == first
    assert len(web.asked) == 2
    # Damage of a file whose sum is told is found and mended.
    assert first[0].path is not None
    first[0].path.write_bytes(BODY[:-1] + b"!")
    assert list(fetch(files, tmp_path)) == first
    assert first[0].path.read_bytes() == BODY
    assert len(web.asked) == 3


def test_files_that_are_here_are_handed_on(tmp_path: Path) -> None:
    here = [GenomeFile(tmp_path / "a.fna", "http://127.0.0.1:9/a", "a"), GenomeFile(Path("b.fna"), None, "b")]
    assert list(fetch(here, tmp_path / "never")) == here
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_broken_transfer_goes_on_where_it_broke(web: Web, tmp_path: Path, chunked: bool) -> None:
    web.pages["/a.fna"] = Page(BODY, break_after=100_000, breaks=2, chunked=chunked)
    notes: list[str] = []
    (got,) = fetch([asked_for(web, "/a.fna", sha256=sha256(BODY))], tmp_path, log=notes.append)
    assert verify_genome(got) == sha256(BODY)
    parts = [int((part or "bytes=0-")[6:-1]) for part, _ in web.requests("/a.fna")]
    assert len(parts) == 3
    assert 0 == parts[0] < parts[1] < parts[2]
    assert [status for _, status in web.requests("/a.fna")] == [200, 206, 206]
    assert web.sent["/a.fna"] < LENGTH + 2 * (1 << 16) + 1
    assert len(notes) == 2
    assert all("resuming from" in note for note in notes)


def test_the_date_of_the_last_change_serves_where_the_tag_is_weak(web: Web, tmp_path: Path) -> None:
    date = "Tue, 13 Feb 2024 10:00:00 GMT"
    web.pages["/a.fna"] = Page(BODY, break_after=100_000, weak=True, date=date)
    (got,) = fetch([asked_for(web, "/a.fna")], tmp_path)
    assert verify_genome(got) == sha256(BODY)
    assert [status for _, status in web.requests("/a.fna")] == [200, 206]


@pytest.mark.parametrize("how", ["ignores ranges", "tells nothing", "sends another part"])
def test_where_going_on_is_not_safe_it_begins_anew(web: Web, tmp_path: Path, how: str) -> None:
    page = Page(BODY, break_after=100_000)
    page.ranges, page.tag = how != "ignores ranges", how != "tells nothing"
    page.other_part = how == "sends another part"
    web.pages["/a.fna"] = page
    (got,) = fetch([asked_for(web, "/a.fna")], tmp_path)
    assert verify_genome(got) == sha256(BODY)
    assert web.sent["/a.fna"] >= LENGTH + 100_000


def test_a_file_that_changed_in_between_is_not_mixed(web: Web, tmp_path: Path) -> None:
    page = web.pages["/a.fna"] = Page(BODY, break_after=100_000, breaks=-1, ranges=False)
    with pytest.raises(InputError, match="broke"):
        list(fetch([asked_for(web, "/a.fna")], tmp_path, retries=1))
    assert left(tmp_path) != []
    page.body, page.breaks, page.ranges = letters(1), 0, True
    (got,) = fetch([asked_for(web, "/a.fna")], tmp_path)
    assert verify_genome(got) == sha256(letters(1))


def test_a_shorter_file_than_the_part_is_no_end(web: Web, tmp_path: Path) -> None:
    page = web.pages["/a.fna"] = Page(BODY, break_after=200_000, breaks=-1, date="then", tag=False)
    page.ranges = False
    with pytest.raises(InputError):
        list(fetch([asked_for(web, "/a.fna")], tmp_path, retries=0))
    page.body, page.breaks, page.ranges = BODY[:1000], 0, True
    (got,) = fetch([asked_for(web, "/a.fna")], tmp_path)
    assert verify_genome(got) == sha256(BODY[:1000])
    assert [status for _, status in web.requests("/a.fna")][-2:] == [416, 200]


def test_a_transfer_that_always_breaks_is_one_line(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"] = Page(BODY, break_after=100_000, breaks=-1, ranges=False)
    with pytest.raises(InputError) as caught:
        list(fetch([asked_for(web, "/a.fna")], tmp_path, retries=3))
    assert str(caught.value).startswith(f"m.tsv, line 2: {web.url}/a.fna could not be fetched · ")
    assert "\n" not in str(caught.value)
    assert len(web.asked) == 4
    assert whole(tmp_path) == []


def test_a_server_that_gives_a_little_each_time_is_slow_not_broken(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"] = Page(BODY, break_after=30_000, breaks=-1)
    (got,) = fetch([asked_for(web, "/a.fna")], tmp_path, retries=1)
    assert verify_genome(got) == sha256(BODY)


def test_a_wrong_sum_is_tried_once_more(web: Web, tmp_path: Path) -> None:
    page = web.pages["/a.fna"] = Page(letters(1))

    def mend(note: str) -> None:
        assert md5(BODY) in note
        page.body = BODY

    (got,) = fetch([asked_for(web, "/a.fna", md5=md5(BODY))], tmp_path, log=mend)
    assert verify_genome(got) == sha256(BODY)
    assert len(web.asked) == 2


@pytest.mark.parametrize("name", ["md5", "sha256"])
def test_a_sum_that_stays_wrong_names_both(web: Web, tmp_path: Path, name: str) -> None:
    web.pages["/a.fna"] = Page(BODY)
    sums = {"md5": md5, "sha256": sha256}
    wrong = sums[name](b"other")
    with pytest.raises(InputError, match=f"{sums[name](BODY)}, expected {wrong}"):
        list(fetch([asked_for(web, "/a.fna", **{name: wrong})], tmp_path))
    assert len(web.asked) == 2
    assert whole(tmp_path) == []
    assert left(tmp_path) == []


def test_a_size_that_stays_wrong_is_told(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"] = Page(BODY)
    for size in (LENGTH - 1, LENGTH + 1):
        with pytest.raises(InputError, match=f"{LENGTH:,} bytes, expected {size:,}"):
            list(fetch([asked_for(web, "/a.fna", size=size)], tmp_path / str(size), retries=1))
    assert whole(tmp_path) == []


def test_a_content_length_that_is_too_long_is_a_broken_transfer(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"] = Page(BODY, length=LENGTH + 5000, ranges=False)
    with pytest.raises(InputError, match="5000 more expected"):
        list(fetch([asked_for(web, "/a.fna")], tmp_path, retries=1))
    assert whole(tmp_path) == []
    # A server that, asked for the rest, tells the true length has given all.
    web.pages["/a.fna"].ranges = True
    (got,) = fetch([asked_for(web, "/a.fna")], tmp_path)
    assert verify_genome(got) == sha256(BODY)


@pytest.mark.parametrize("told", [{"md5": md5(BODY)}, {"size": LENGTH}])
def test_a_content_length_that_is_too_short_gives_no_file(
    web: Web, tmp_path: Path, told: dict[str, Any]
) -> None:
    web.pages["/a.fna"] = Page(BODY, length=LENGTH - 5000)
    with pytest.raises(InputError, match="expected"):
        list(fetch([asked_for(web, "/a.fna", **told)], tmp_path, retries=1))
    assert whole(tmp_path) == []


def test_busy_servers_are_asked_again_when_they_say(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"] = Page(
        BODY, statuses=[(503, {}), (500, {}), (429, {"Retry-After": "1"}), (503, {"Retry-After": "0"})]
    )
    begun = time.monotonic()
    (got,) = fetch([asked_for(web, "/a.fna")], tmp_path)
    assert time.monotonic() - begun >= 1
    assert verify_genome(got) == sha256(BODY)
    assert [status for _, status in web.requests("/a.fna")] == [503, 500, 429, 503, 200]


def test_a_server_that_stays_busy_is_one_line(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"] = Page(BODY, statuses=[(503, {})] * 99)
    with pytest.raises(InputError, match="busy or broken") as caught:
        list(fetch([asked_for(web, "/a.fna")], tmp_path, retries=2))
    assert len(web.asked) == 3
    assert caught.value.exit_code == 2


def test_no_such_file_is_one_line_and_the_others_come(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"], web.pages["/c.fna"] = Page(BODY), Page(BODY)
    files = [asked_for(web, f"/{name}.fna", name) for name in "abc"]
    got: list[str] = []
    notes: list[str] = []
    with pytest.raises(InputError) as caught:
        got.extend(file.genome for file in fetch(files, tmp_path, log=notes.append))
    assert str(caught.value).startswith(
        f"m.tsv, line 2: {web.url}/b.fna could not be fetched · there is no such"
    )
    assert notes == [str(caught.value)]
    assert len(whole(tmp_path)) == 2
    assert len(web.requests("/b.fna")) == 1


def test_a_server_that_is_away_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        files = [GenomeFile(None, f"http://127.0.0.1:{port}/{n}.fna", str(n)) for n in range(500)]
        with pytest.raises(
            InputError, match="20 files could not be fetched before it was given up"
        ) as caught:
            list(fetch(files, tmp_path, retries=0))
    assert "refused" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bodies_are_kept_as_they_lie_on_the_server(web: Web, tmp_path: Path) -> None:
    packed = gzip.compress(b">a\nACGT\n")
    web.pages["/a.fna.gz"] = Page(packed, encoding="gzip")
    (got,) = fetch([asked_for(web, "/a.fna.gz", md5=md5(packed))], tmp_path)
    assert verify_genome(got) == sha256(packed)


def test_an_empty_file_is_a_file(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"] = Page(b"")
    (got,) = fetch([asked_for(web, "/a.fna", size=0)], tmp_path)
    assert verify_genome(got) == sha256(b"")


def test_the_order_is_that_of_the_files_whatever_is_slow(web: Web, tmp_path: Path) -> None:
    names = [f"{n:02}" for n in range(40)]
    for at, name in enumerate(names):
        web.pages[f"/{name}.fna"] = Page(letters(at, 20_000), pause=0.1 if at % 10 == 0 else 0)
    files = (asked_for(web, f"/{name}.fna", name) for name in names)
    got = list(fetch(files, tmp_path, threads=5))
    assert [file.genome for file in got] == names
    assert [verify_genome(file) for file in got] == [sha256(letters(at, 20_000)) for at in range(40)]


def test_a_caller_who_wants_no_more_is_not_kept_waiting(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"] = Page(BODY)
    web.pages["/b.fna"] = Page(letters(1, 10_000_000), pause=0.2)
    web.pages["/c.fna"] = Page(BODY, statuses=[(503, {"Retry-After": "100"})] * 9)
    files = fetch([asked_for(web, f"/{name}.fna", name) for name in "abc"], tmp_path)
    next(files)
    time.sleep(0.3)
    begun = time.monotonic()
    files.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 2
    assert [path.name for path in whole(tmp_path)] == ["a.fna"]
    assert not [one.name for one in threading.enumerate() if one.name.startswith("fetch_")]


def test_one_file_twice_is_refused(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"] = Page(BODY)
    with pytest.raises(InputError, match="listed twice"):
        list(fetch([asked_for(web, "/a.fna", "a"), asked_for(web, "/a.fna", "b")], tmp_path))


def test_one_process_a_folder(web: Web, tmp_path: Path) -> None:
    web.pages["/a.fna"] = Page(BODY)
    files = [asked_for(web, "/a.fna")]
    running = fetch(files, tmp_path)
    next(running)
    with pytest.raises(UsageError, match="another process"):
        list(fetch(files, tmp_path))
    assert list(running) == []
    assert len(list(fetch(files, tmp_path))) == 1


def test_a_folder_that_is_none_is_one_line(web: Web, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        list(fetch([asked_for(web, "/a.fna")], tmp_path / "file"))
    with pytest.raises(UsageError):
        fetch([], tmp_path, threads=0)


def test_every_url_has_its_own_place(tmp_path: Path) -> None:
    tails = ["", "/", "//", "/.", "/..", "/../..", "?q=1", "/?q=1", "%2Fy", "/y", "/.y"]
    urls = [f"https://a.org/x{tail}" for tail in (*tails, "/" + 300 * "a", "/" + 301 * "a")]
    places = [place_of(url, tmp_path) for url in urls]
    assert len(set(places)) == len(urls)
    for place in places:
        assert (tmp_path / "a.org") in Path(os.path.normpath(place)).parents
        assert max(map(len, place.parts)) < 210
    secret = "https://me:pass@a.org/x.fna"
    assert place_of(secret, tmp_path) == tmp_path / "a.org" / "x.fna"
    assert GenomeFile(None, secret, "x").where == "https://a.org/x.fna"


CALL = """
import sys
from pathlib import Path
from kinmer.library.downloads import fetch
from kinmer.library.packages import find_genomes
for file in fetch(find_genomes(sys.argv[1]), sys.argv[2], threads=2):
    print(file.genome, flush=True)
"""


def test_killed_and_called_again_it_goes_on(web: Web, tmp_path: Path) -> None:
    names = [f"{n}.fna.gz" for n in range(4)]
    bodies = {name: letters(at, 1_500_000) for at, name in enumerate(names)}
    for name, body in bodies.items():
        web.pages[f"/{name}"] = Page(body, pause=0.005)
    rows = [f"{web.url}/{name}\t{md5(body)}" for name, body in bodies.items()]
    manifest = tmp_path / "m.tsv"
    manifest.write_text("\n".join(["url\tmd5", *rows, ""]))
    call = [sys.executable, "-c", CALL, str(manifest), str(tmp_path / "to")]
    for share in (0.2, 0.6):
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL)
        while sum(web.sent.values()) < share * 6_000_000:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1", "2", "3"]
    found = {path.name: path.read_bytes() for path in whole(tmp_path / "to")}
    assert found == bodies
    assert left(tmp_path / "to") == []
    # What was on its way, in buffers of sockets, when it was killed is all that comes twice.
    assert sum(web.sent.values()) < 6_000_000 + 2 * 2 * 600_000
    assert 206 in [status for _, _, status in web.asked]
    before = sum(web.sent.values())
    subprocess.run(call, capture_output=True, check=True)
    assert sum(web.sent.values()) == before

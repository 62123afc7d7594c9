"""Benchmarks without a clock: statistics on a synthetic one, gaps, checks, and the result files."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import harness, results
from benchmarks.workload import Candidate, Peer, Row, Settings
from tests.benchmarks.documents import document, row


class Clock:
    """Time that only candidates spend."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: Callable[[], float]) -> Callable[[], None]:
        def run() -> None:
            self.now += seconds()

        return run


def timed(
    clock: Clock, settings: Settings, **seconds: float
) -> tuple[dict[str, list[float]], dict[str, int]]:
    candidates = [Candidate(name, clock.spend(lambda s=s: s), 1.0) for name, s in seconds.items()]
    return harness.paired(candidates, settings, clock=clock, pause=clock.pauses.append)


def test_spread_is_median_and_middle_half() -> None:
    assert harness.spread([5, 1, 4, 2, 3]) == {"median": 3, "low": 2, "high": 4, "min": 1}
    assert harness.spread([7.0]) == {"median": 7, "low": 7, "high": 7, "min": 7}


def test_ratio_pairs_the_rounds_that_both_took_part_in() -> None:
    # round by round 2, 3, 4; the ratio of the medians over all rounds would be 30 / 5
    assert harness.ratio([20, 30, 40], [10, 10, 10, 1, 1])["median"] == 3


def test_drift_of_the_machine_cancels_in_the_ratio() -> None:
    clock, slower = Clock(), [1.0]

    def drifting(seconds: float) -> Callable[[], float]:
        def now() -> float:
            slower[0] *= 1.01  # every call is 1 % slower than the one before
            return seconds * slower[0]

        return now

    candidates = [Candidate(n, clock.spend(drifting(s)), 1.0) for n, s in (("slow", 0.3), ("fast", 0.1))]
    times, _ = harness.paired(candidates, Settings(rounds=(20, 20)), clock=clock, pause=clock.pauses.append)
    assert max(times["fast"]) > 1.4 * min(times["fast"])
    assert harness.ratio(times["slow"], times["fast"])["median"] == pytest.approx(3, rel=0.011)


def test_short_calls_are_repeated_until_they_fill_a_sample() -> None:
    times, loops = timed(Clock(), Settings(sample=0.004, rounds=(3, 3)), short=1e-4, long=0.5)
    assert loops == {"short": 40, "long": 1}
    assert times["short"] == pytest.approx([1e-4] * 3)


def test_rounds_fill_the_time_within_their_limits() -> None:
    # 0.125 s a round: a second is eight
    assert len(timed(Clock(), Settings(seconds=1.0, rounds=(3, 40)), a=0.0625, b=0.0625)[0]["a"]) == 8
    assert len(timed(Clock(), Settings(seconds=0.001, rounds=(3, 40)), a=0.1)[0]["a"]) == 3
    assert len(timed(Clock(), Settings(seconds=1e6, rounds=(3, 40)), a=0.1)[0]["a"]) == 40


def test_a_slow_candidate_takes_part_in_the_first_rounds_only() -> None:
    clock = Clock()
    candidates = [
        Candidate("pyquant", clock.spend(lambda: 0.1), 1.0),
        Candidate("slow", clock.spend(lambda: 100.0), 1.0, max_rounds=2),
    ]
    times, _ = harness.paired(candidates, Settings(seconds=1.0, rounds=(3, 40)), clock=clock)
    assert (len(times["slow"]), len(times["pyquant"])) == (2, 10)  # its 100 s do not eat the others' rounds
    assert harness.ratio(times["slow"], times["pyquant"])["median"] == pytest.approx(1000)


def test_pools_get_time_to_fall_asleep_between_candidates() -> None:
    clock = Clock()
    timed(clock, Settings(threads=2, rounds=(3, 3)), a=0.1, b=0.1)
    assert clock.pauses == [harness.PAUSE] * 6
    clock = Clock()
    timed(clock, Settings(threads=1, rounds=(3, 3)), a=0.1, b=0.1)
    assert clock.pauses == []


class FakeProbe:
    """Peaks that change from call to call, and a limit of 10 multiply-adds a second."""

    compute_names = ("madd",)

    def __init__(self, clock: Clock, *peaks: dict[str, float]) -> None:
        self.clock, self.left = clock, list(peaks)

    def peaks(self, seconds: float, repeats: int) -> dict[str, float]:
        return self.left.pop(0)

    def compute(self, name: str, macs: float) -> tuple[Callable[[], None], float]:
        return self.clock.spend(lambda: macs / 10), macs


def measured(monkeypatch: pytest.MonkeyPatch, *peaks: dict[str, float]) -> dict[str, Any]:
    clock, settings = Clock(), Settings(rounds=(4, 4))
    made = Row("r", settings, work=1e8, unit="MAC", traffic=1e6, limit="madd", checked="yes")
    made.ours(clock.spend(lambda: 1.25e7))
    made.peer("peer", lambda: Peer(clock.spend(lambda: 2.5e7), lambda: np.zeros(1), "as it comes"))
    monkeypatch.setattr(harness.paired, "__kwdefaults__", {**harness.paired.__kwdefaults__, "clock": clock})
    return harness.measure(made, settings, FakeProbe(clock, *peaks))  # type: ignore[arg-type]


def test_a_row_has_ratios_and_its_share_of_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(monkeypatch, {"madd": 10.0, "read": 5.0}, {"madd": 10.1, "read": 4.0})
    assert found["ratios"]["peer"]["median"] == pytest.approx(2)
    assert found["of_limit"]["madd"]["median"] == pytest.approx(0.8)
    assert found["candidates"]["peer"]["settings"] == "as it comes"
    assert not found["noisy"]  # 1 % of its own limit; that the memory moved is no matter
    results.check(document("w", [found]))


def test_a_row_whose_limit_moved_is_noisy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, {"madd": 10.0}, {"madd": 9.4})["noisy"]


def row_with_peer(build: Callable[[], Peer], **settings: Any) -> Row:
    expected = np.ones(4, np.float32)
    made = Row("r", Settings(**settings), work=1, unit="MAC", traffic=1, limit=None, expected=expected)
    made.peer("peer", build, heavy=True)
    return made


def test_a_peer_that_is_missing_fails_or_is_wrong_is_a_named_gap() -> None:
    def missing() -> Peer:
        import no_such_library  # noqa: F401

        raise AssertionError

    def failing() -> Peer:
        raise RuntimeError("no kernel\nand a long story")

    def wrong() -> Peer:
        return Peer(lambda: None, lambda: np.array([1, 1, 1, 2], np.float32))

    def near() -> Peer:
        return Peer(lambda: None, lambda: np.array([1, 1, 1, 1.2], np.float32))

    assert row_with_peer(missing).gaps == {"peer": "not installed: no_such_library"}
    assert row_with_peer(failing).gaps == {"peer": "RuntimeError: no kernel"}
    assert row_with_peer(wrong).gaps == {"peer": "ValueError: wrong result, relative error 0.50"}
    good = row_with_peer(near)
    assert good.gaps == {}
    assert good.candidates["peer"].error == pytest.approx(0.1)
    assert row_with_peer(near, peers="torch").candidates == {}


def test_wrong_integers_stop_a_row() -> None:
    made = row_with_peer(lambda: Peer(lambda: None, lambda: np.ones(4)))
    made.equal(np.array([1], np.int8), np.array([1], np.int8), "the sums")
    assert made.checked == "equal to the definition: the sums"
    for other in (np.array([2], np.int8), np.array([1], np.int16)):
        with pytest.raises(AssertionError, match="r: the sums differs"):
            made.equal(np.array([1], np.int8), other, "the sums")


def test_result_files_are_written_whole_and_checked(tmp_path: Path) -> None:
    good = document("gemm", [row("a", 1e6, 1e4, 1.23456789e-3, {"torch float32": 2.0})])
    path = results.save(good, tmp_path)
    assert path.name == "gemm-threads1-avx2.json"
    assert [d["workload"] for d in results.load_all(tmp_path)] == ["gemm"]
    assert json.loads(path.read_text())["rows"][0]["candidates"]["pyquant"]["seconds"]["median"] == 1.2346e-3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: d.pop("commit"), "document: commit is missing"),
        (lambda d: d.update(schema=2), "expected schema 1, got 2"),
        (lambda d: d.update(threads=True), "expected threads as int"),
        (lambda d: d["rows"][0].update(checked=""), "row 'a': its integers were not checked"),
        (lambda d: d["rows"][0].update(noisy="no"), "row: expected noisy as bool"),
        (lambda d: d["rows"][0]["candidates"]["pyquant"]["seconds"].pop("low"), "seconds: low is missing"),
        (lambda d: d["rows"][0]["ratios"].update(x=3), "ratios 'x': expected an object"),
    ],
)
def test_a_document_that_is_not_one_is_refused(
    break_it: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    bad = copy.deepcopy(document("gemm", [row("a", 1e6, 1e4, 1e-3, {})]))
    break_it(bad)
    with pytest.raises(ValueError, match=message):
        results.save(bad, tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    with pytest.raises(ValueError, match=r"bad\.json: "):
        results.load_all(tmp_path)

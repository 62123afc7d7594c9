"""The page and the picture, from made-up results."""

from __future__ import annotations

from pathlib import Path

from benchmarks import goals, report, results, roofline
from tests.benchmarks.documents import document, row

GEMM = document(
    "gemm",
    [
        row("197x384x384", 29e6, 3e5, 1.5e-3, {"torch float32": 2.0, "FBGEMM": 0.9}, noisy=True),
        row("197x768x768", 116e6, 9e5, 6e-3, {"torch float32": 1.6}, gaps={"FBGEMM": "not installed: x"}),
    ],
)
ELEMENTWISE = document(
    "elementwise",
    [
        row(f"{name} 197x384", 1e5, 2e5, 2e-5, {"torch float32": 5.0}, limit=None, unit="element")
        for name in ("GELU table", "layer norm", "add", "quantize", "dequantize")
    ],
)


def test_page_has_figures_losses_noise_and_gaps() -> None:
    page = report.markdown([GEMM, ELEMENTWISE])
    lines = page.splitlines()
    assert "### title of gemm; 1 thread" in lines
    assert "|  | 197x384x384 † | 197x768x768 |" in lines
    assert "| pyquant, ms and GMAC/s | 1.5 / 19.3 | 6 / 19.3 |" in lines
    assert "| of vpmaddwd | 90 % (86 .. 94) | 90 % (86 .. 94) |" in lines
    assert "| over torch float32 | 2.00 (1.90 .. 2.10) | 1.60 (1.52 .. 1.68) |" in lines
    assert "| over FBGEMM | **0.90** (0.85 .. 0.95) | not measured |" in lines
    assert "* Not measured: FBGEMM (not installed: x) at 197x768x768" in lines
    assert "* CPU: Some CPU (cpu family 1)" in lines


def test_long_workloads_go_down_the_page() -> None:
    lines = report.markdown([ELEMENTWISE]).splitlines()
    assert "|  | pyquant, ns an element | over torch float32 |" in lines
    assert "| GELU table 197x384 | 0.2 | 5.00 (4.75 .. 5.25) |" in lines


def test_a_row_that_did_not_ask_for_a_peer_says_nothing_of_it() -> None:
    other = row("b", 1e6, 1e4, 1e-3, {"only here": 1.0})
    page = report.markdown([document("gemm", [GEMM["rows"][0], other, other])])
    assert "| over only here |  | 1.00 (0.95 .. 1.05) | 1.00 (0.95 .. 1.05) |" in page.splitlines()


def test_instruction_sets_without_results_are_named() -> None:
    page = report.markdown([GEMM])
    assert page.count("Not measured: no such machine was met.") == len(report.ISAS) - 1
    assert report.markdown([]).count("Not measured: no such machine was met.") == len(report.ISAS)


def test_goals_name_hits_and_misses() -> None:
    found = {(o.goal.what, o.row): o.reached for o in goals.outcomes([GEMM, ELEMENTWISE])}
    assert found["share of the vpmaddwd limit", "197x384x384"] is False  # 0.90 of 0.92
    assert found["times torch float32", "197x384x384"] is True  # 2.0 of 1.7
    assert found["times torch float32", "197x768x768"] is False
    assert found["ns an element", "layer norm 197x384"] is True  # 0.2 of at most 0.4
    assert found["ns an element", "GELU table 197x384"] is False  # 0.2 of at most 0.15
    assert ("times FBGEMM", "197x768x768") not in found
    page = report.markdown([GEMM, ELEMENTWISE])
    assert "| gemm | 2 rows † | times torch float32 | ≥ 1.70 | 1.60 .. 2.00 | **1 of 2** |" in page
    assert "| elementwise | layer norm 197x384 | ns an element | ≤ 0.40 | 0.20 | 1 of 1 |" in page


def test_goals_of_training() -> None:
    learned = {"torch float32": 0.8, "pyquant, W8A8-lsq": 1.2}
    step = row("step", 1e9, 1e6, 0.3, learned, limit=None)
    forward = row("forward 512x256", 131072, 1e6, 2e-5, {"torch float32": 25.0}, limit=("copy", 0.7))
    documents = [document("qat", [step]), document("fake", [forward])]
    found = {o.goal.what: (round(o.value, 3), o.reached) for o in goals.outcomes(documents)}
    assert found == {
        "W8A8: times a float step": (1.25, True),
        "W8A8-lsq: times a float step": (1.5, False),
        "share of a copy into a reused buffer": (0.7, False),  # 1.43 times as long
        "times torch": (25.0, True),
    }


def test_sections_name_their_cpu_where_there_are_several() -> None:
    other = document("elementwise", [])
    environment = {"PYQUANT_ISA": "avx2", "OMP_NUM_THREADS": "1"}
    other["machine"] = {"cpu": "Another CPU", "environment": environment}
    assert "### title of gemm; 1 thread" in report.markdown([GEMM, ELEMENTWISE]).splitlines()
    lines = report.markdown([GEMM, other]).splitlines()
    assert "### title of gemm; 1 thread, Some CPU (cpu family 1)" in lines
    assert "### title of elementwise; 1 thread, Another CPU held by PYQUANT_ISA=avx2" in lines


def test_every_goal_can_be_met_by_some_row() -> None:
    """A goal whose pattern matches no row of its workload would be silently skipped."""
    import fnmatch

    from benchmarks.run import workload
    from benchmarks.workload import WORKLOADS, Settings

    names = {name: list(workload(name).rows(Settings())) for name in WORKLOADS}
    for goal in goals.GOALS:
        assert fnmatch.filter(names[goal.workload], goal.rows), goal


def test_picture_and_page_are_written(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for document_ in (GEMM, {**GEMM, "threads": 2}, ELEMENTWISE):
        results.save(document_, tmp_path)
    report.main(["--results", str(tmp_path), "--out", str(made)])
    assert sorted(p.name for p in made.iterdir()) == ["RESULTS.md", "roofline-avx2.png"]
    assert (made / "roofline-avx2.png").read_bytes().startswith(b"\x89PNG")
    assert "![Roofline, avx2](roofline-avx2.png)" in (made / "RESULTS.md").read_text()


def test_no_picture_without_products(tmp_path: Path) -> None:
    assert roofline.draw_all([ELEMENTWISE], tmp_path) == []


def test_committed_page_is_of_the_committed_results() -> None:
    page = results.FOLDER.parent / "RESULTS.md"
    documents = results.load_all()
    pictures = [path.name for path in sorted(page.parent.glob("roofline-*.png"))]
    assert page.read_text(encoding="utf-8") == report.markdown(documents, pictures)

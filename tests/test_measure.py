"""Memory at its peak: seen though it is freed, and none where the system does not tell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attrib.tasks.measure import measured


def test_memory_at_its_peak_is_seen_though_it_is_freed_again() -> None:
    with measured(torch.device("cpu")) as meter:
        torch.ones(25_000_000).sum()  # 100 MB
    if meter.spent.peak_bytes is None:
        pytest.skip("this system does not tell the resident memory")
    assert 80e6 < meter.spent.peak_bytes < 200e6


def test_what_was_freed_before_does_not_hide_what_is_used_now() -> None:
    blocks = [torch.ones(1_000_000) for _ in range(25)]
    del blocks
    with measured(torch.device("cpu")) as meter:
        again = [torch.ones(1_000_000) for _ in range(25)]
    assert len(again) == 25
    if meter.spent.peak_bytes is None:
        pytest.skip("this system does not tell the resident memory")
    assert meter.spent.peak_bytes > 70e6


def test_memory_is_none_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attrib.tasks.measure._STATM", Path("/nonexistent"))
    with measured(torch.device("cpu")) as meter:
        pass
    assert meter.spent.peak_bytes is None
    assert meter.spent.seconds >= 0


def test_memory_of_a_gpu_is_what_torch_allocated_above_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name, value in {"synchronize": None, "reset_peak_memory_stats": None, "memory_allocated": 70}.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, name=name, value=value: (calls.append(name), value)[1])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 100)
    with measured(torch.device("cuda")) as meter:
        calls.append("work")
    assert meter.spent.peak_bytes == 30
    assert calls == ["synchronize", "reset_peak_memory_stats", "memory_allocated", "work", "synchronize"]


def test_the_watch_ends_when_the_work_fails() -> None:
    import threading

    with pytest.raises(ValueError, match="broken"), measured(torch.device("cpu")):
        raise ValueError("broken")
    assert "attrib-memory" not in {thread.name for thread in threading.enumerate()}

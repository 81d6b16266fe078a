"""Calls that write into plain memory."""

import ctypes
from typing import Any

import pynvml as nvml
import pytest

from gpumon.agent import calls


def test_what_a_driver_leaves_unwritten_is_not_the_figure_of_another_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def driver(handle: int, *places: Any) -> int:
        if handle == 7:
            ctypes.memmove(places[0], ctypes.byref(ctypes.c_uint(99)), 4)
        return 0

    monkeypatch.setattr(calls, "library", lambda _: driver)
    assert [calls.power_usage(7), calls.power_usage(8)] == [99, 0]
    assert [calls.utilization_rates(7).gpu, calls.utilization_rates(8).gpu] == [99, 0]


def test_a_code_is_raised_as_the_binding_raises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "library", lambda _: lambda *_: 15)
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        calls.memory_info(7)
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        calls.encoder_utilization(7)


def test_a_function_that_the_library_does_not_have_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "nvmlLib", object())
    with pytest.raises(nvml.NVMLError_FunctionNotFound):
        calls.figure("nvmlDeviceGetNothing")(7)


@pytest.mark.parametrize(
    ("plain", "bindings"),
    [
        (calls.Utilization, nvml.c_nvmlUtilization_t),
        (calls.MemoryInfo, nvml.c_nvmlMemory_v2_t),
        (calls.Temperature, nvml.c_nvmlTemperature_v1_t),
        (calls.Entry, nvml.c_nvmlProcessInfo_v2_t),
        (calls.Share, nvml.c_nvmlProcessUtilizationSample_t),
    ],
)
def test_structures_are_laid_out_as_the_binding_has_them(plain: Any, bindings: Any) -> None:
    assert ctypes.sizeof(plain) == ctypes.sizeof(bindings)
    for name, _ in bindings._fields_:
        assert getattr(plain, name).offset == getattr(bindings, name).offset

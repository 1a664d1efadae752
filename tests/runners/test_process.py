"""Tests of the preparation of a process."""

import platform
import resource

import pytest
import torch
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton

from runners.sweep.process import give_back_memory, keep_plugins, prepare_torch


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, whose allocator is left alone")
def test_freed_memory_is_kept_for_the_next_tensor_until_it_is_given_back():
    prepare_torch(threads=1, device="cpu")

    def faults_of_a_round() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        together = [torch.ones(5_000_000) for _ in range(5)]  # 100 MB in all
        del together
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    for _ in range(3):  # the heap grows to what is needed
        faults_of_a_round()
    pages = 5 * 20_000_000 // resource.getpagesize()
    assert faults_of_a_round() < pages / 20
    give_back_memory()
    assert faults_of_a_round() > pages / 2


def test_threads_are_those_that_were_asked_for():
    prepare_torch(threads=1, device="cpu")
    assert torch.get_num_threads() == 1


def test_hydra_looks_for_plugins_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugins, "_initialize", Plugins._initialize)  # put back at the end
    known = Plugins.instance().class_name_to_class
    keep_plugins.__wrapped__()
    monkeypatch.setattr(Plugins, "_scan_all_plugins", lambda modules: pytest.fail("looked for again"))
    Singleton.set_state(Singleton.get_state())  # what a launcher does before each job
    assert Plugins.instance().class_name_to_class == known != {}

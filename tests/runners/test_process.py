"""What a process sets up before it calculates."""

import platform
import resource

import pytest
import torch

from runners.process import give_back_memory, prepare_torch


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

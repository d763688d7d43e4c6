"""Runners of one model in two threads, the interpreter's lock, and what a runner leaves behind."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref

import pytest
import torch

from specbranch.models.one_call import decoder_of

from . import tiny
from .packed import packed
from .single import Single

SIZES = {"max_len": 96, "max_nodes": 64, "page_size": 16}


@pytest.mark.parametrize("make", [packed, tiny.model], ids=["one call", "eager"])
def test_runners_of_one_model_do_not_disturb_each_other(make):
    """Neither their logits nor their features."""
    model = make("Llama")
    texts = [list(range(10, 40)), list(range(60, 90))]
    runners = [Single.of(model, feature_layers=2, **SIZES) for _ in texts]

    def outputs(which: int) -> list[torch.Tensor]:
        runner, text = runners[which], texts[which]
        runner.reset()
        runner.prefill(text[:10])
        logits = runner.forward(text[10:], [*range(-1, 19)])
        return [logits, runner.runner.features]

    wanted = [outputs(which) for which in range(2)]
    together, found = threading.Barrier(2), [[], []]

    def work(which: int) -> None:
        for _ in range(30):
            together.wait(20)
            found[which].append(outputs(which))

    threads = [threading.Thread(target=work, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which in range(2):
        assert len(found[which]) == 30
        for logits, features in found[which]:
            assert torch.equal(logits, wanted[which][0])
            assert torch.equal(features, wanted[which][1])


def test_a_forward_holds_no_interpreter_lock():
    """Another thread's Python runs meanwhile, though nobody has to give up the lock."""
    inside, seen, done = [False], [], threading.Event()

    def prepare(forward, buffers):
        decoder = decoder_of(forward.model, forward.pool, 128)
        logits = torch.empty(1, tiny.VOCAB_SIZE)

        def run(*inputs):
            for _ in range(50):
                inside[0] = True
                decoder.run(*inputs, logits, None)
                inside[0] = False
            return (logits,)

        return run

    def look():
        while not done.is_set():
            time.sleep(1e-4)
            seen.append(inside[0])

    runner = Single.of(packed("Llama"), prepare=prepare, **SIZES)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    other = threading.Thread(target=look)
    try:
        other.start()
        runner.forward(list(range(60)), [*range(-1, 59)], logits_rows=1)
    finally:
        done.set()
        sys.setswitchinterval(before)
        other.join()
    assert any(seen)


def test_weights_go_with_the_model_and_its_runner():
    model = packed("Llama")
    runner = Single.of(model, **SIZES)
    runner.forward([1], [-1])
    alive = [
        weakref.ref(model.lm_head.weight),
        weakref.ref(model.model.norm.weight),
        weakref.ref(runner.runner.pool.k[0]),
    ]
    del model
    runner.forward([2], [0])
    del runner
    gc.collect()
    assert [tensor() for tensor in alive] == [None] * 3

"""Models that `specbranch.generate` decodes with stay their owners', and may change."""

from __future__ import annotations

import copy
import gc
import threading
import weakref

import pytest
import torch
from transformers import (
    StoppingCriteria,
    StoppingCriteriaList,
)

import specbranch
from specbranch.adapters import transformers as adapter
from specbranch.lanes import LaneError
from tests.adapters.plain import GREEDY, MASK, ONE, ROWS, same
from tests.engine import tiny


def test_the_model_stays_as_it_is(ours):
    model = tiny.model().train()
    attention = model.config._attn_implementation
    places = [tensor.data_ptr() for tensor in model.parameters()]
    kinds = [type(module) for module in model.modules()]
    logits = model(ONE).logits
    plain = model.generate(ONE, **GREEDY)

    class Fails(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            assert model.config._attn_implementation == attention
            raise KeyError("mine")

    same(model, ours, ONE, **GREEDY)
    stopping = StoppingCriteriaList([Fails()])
    with pytest.raises(KeyError, match="mine"):
        model.generate(ONE, custom_generate=ours, stopping_criteria=stopping, **GREEDY)
    assert model.config._attn_implementation == attention
    assert [tensor.data_ptr() for tensor in model.parameters()] == places
    assert [type(module) for module in model.modules()] == kinds
    assert model.training
    assert torch.equal(model(ONE).logits, logits)
    assert torch.equal(model.generate(ONE, **GREEDY), plain)
    same(model, ours, ONE, **GREEDY)
    assert ours.stats(model)["running"] == ours.stats(model)["waiting"] == 0
    model(ONE).logits.sum().backward()


def test_an_error_of_a_lane_is_told_and_ends_that_call_alone(model, ours):
    broken = tiny.model()
    with torch.no_grad():
        broken.lm_head.weight.fill_(torch.nan)
    with pytest.raises(LaneError, match="NaN"):
        broken.generate(ROWS, attention_mask=MASK, custom_generate=ours, **GREEDY)
    assert broken.config._attn_implementation == "sdpa"
    same(model, ours, ONE, **GREEDY)


def test_engines_stay_with_the_model(draft, ours):
    model = tiny.model()
    same(model, ours, ONE, **GREEDY)
    guest = adapter._guests[model]
    engine = guest.engines[ours][0]
    again = specbranch.generate(draft, method="bestfirst")
    same(model, again, ONE, **GREEDY)
    assert adapter._guests[model] is guest
    assert guest.engines[ours][0] is engine
    asked = {**GREEDY, "max_new_tokens": 300}
    same(model, ours, ONE, **asked)
    larger = guest.engines[ours][0]
    assert larger is not engine
    assert larger.pair is engine.pair
    embedding = larger.pair.target.get_input_embeddings().weight
    assert embedding.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def test_a_model_that_changes_is_read_anew(ours):
    model = tiny.model()
    first = same(model, ours, ONE, **GREEDY)

    def scale(tensor):
        tensor.mul_(-1)

    for change in (
        lambda: scale(model.model.layers[0].mlp.up_proj.weight),  # by an optimizer
        lambda: scale(model.model.layers[0].self_attn.o_proj.weight.data),  # unseen by autograd
        lambda: setattr(model, "lm_head", copy.deepcopy(tiny.model(1).lm_head)),
        lambda: model.load_state_dict(tiny.model(2).state_dict()),
    ):
        with torch.no_grad():
            change()
        last = same(model, ours, ONE, **GREEDY)
        assert not torch.equal(last, first)
        first = last


def test_hooks_count(ours):
    model = tiny.model()
    first = same(model, ours, ONE, **GREEDY)
    calls = []

    def flip(module, inputs, output):
        calls.append(1)
        return -output

    handle = model.model.layers[0].mlp.register_forward_hook(flip)
    assert not torch.equal(same(model, ours, ONE, **GREEDY), first)
    before = len(calls)
    model.generate(ONE, custom_generate=ours, **GREEDY)
    assert len(calls) > before
    handle.remove()
    assert torch.equal(same(model, ours, ONE, **GREEDY), first)


def test_nothing_stays_of_a_model_that_goes(ours):
    model = tiny.model()
    model.generate(ONE, custom_generate=ours, **GREEDY)
    twin = weakref.ref(adapter._guests[model].twin)
    del model
    gc.collect()
    assert twin() is None


def test_threads(model, ours):
    prompts = [torch.tensor([[7, start, 3]]) for start in (4, 20, 33)]
    plain = [model.generate(ids, **GREEDY) for ids in prompts]
    said = {}

    def work(at):
        said[at] = model.generate(prompts[at], custom_generate=ours, **GREEDY)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(said[at], plain[at]) for at in range(3))

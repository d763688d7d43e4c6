"""GGUF files whose blocks are kept: the model multiplies by what the file says, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from torch import nn

from specbranch.loading import gguf
from specbranch.loading.quantized import QuantizedEmbedding, QuantizedLinear

from .single import Single

HIDDEN, FFN, HEADS, KV_HEADS, LAYERS, VOCAB = 64, 96, 4, 2, 2, 50
EXACT = ["Q4_0", "Q4_1", "Q8_0"]


def shapes(biased: bool) -> dict[str, tuple[int, ...]]:
    kv = HIDDEN // HEADS * KV_HEADS
    layer = {
        "attn_norm.weight": (HIDDEN,),
        "attn_q.weight": (HIDDEN, HIDDEN),
        "attn_k.weight": (kv, HIDDEN),
        "attn_v.weight": (kv, HIDDEN),
        "attn_output.weight": (HIDDEN, HIDDEN),
        "ffn_norm.weight": (HIDDEN,),
        "ffn_gate.weight": (FFN, HIDDEN),
        "ffn_up.weight": (FFN, HIDDEN),
        "ffn_down.weight": (HIDDEN, FFN),
    }
    if biased:
        layer |= {"attn_q.bias": (HIDDEN,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
    named = {f"blk.{i}.{name}": shape for i in range(LAYERS) for name, shape in layer.items()}
    return {"token_embd.weight": (VOCAB, HIDDEN), "output_norm.weight": (HIDDEN,), **named}


def write(
    path: Path, body: str, embedding: str, architecture: str = "llama", **more: tuple
) -> Path:
    """A random model: its matrices in blocks `body`, its embedding in others."""
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    generator = np.random.default_rng(0)
    for name, shape in {**shapes(biased=architecture == "qwen2"), **more}.items():
        values = generator.standard_normal(shape).astype(np.float32) / shape[-1] ** 0.5
        kind = "F32" if len(shape) == 1 else embedding if name.startswith("token") else body
        values += name.endswith("norm.weight")
        blocks = GGMLQuantizationType[kind]
        data = random_q6_k(shape, generator) if kind == "Q6_K" else quantize(values, blocks)
        writer.add_tensor(name, data, raw_dtype=blocks)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random_q6_k(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    blocks = generator.integers(0, 256, (shape[0], shape[1] // 256, 210), dtype=np.uint8)
    blocks[..., 208:] = np.array([1e-3], np.float16).view(np.uint8)
    return blocks.reshape(shape[0], -1)


def matrices(model: nn.Module) -> dict[str, torch.Tensor]:
    """What the model multiplies by and looks up, and its vectors."""
    found = {name: values.float() for name, values in model.state_dict().items()}
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            found[f"{name}.weight"] = module.rows(torch.arange(module.out_features))
        elif isinstance(module, QuantizedEmbedding):
            found[f"{name}.weight"] = module.rows(torch.arange(module.num_embeddings))
    return found


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("body", EXACT)
def test_blocks_are_kept_to_the_bit(body, architecture, tmp_path):
    path = write(tmp_path / "model.gguf", body, "Q8_0", architecture)
    ours = gguf.load_blocks(path, torch.float32)
    theirs = matrices(gguf.load_dequantized(path, torch.float32))
    assert matrices(ours).keys() == theirs.keys()
    for name, values in matrices(ours).items():
        assert torch.equal(values, theirs[name]), name
    linear = [module for module in ours.modules() if isinstance(module, QuantizedLinear)]
    assert len(linear) == 7 * LAYERS + 1
    assert {module.bits for module in linear[:-1]} == {8 if body == "Q8_0" else 4}
    assert linear[-1].weight is ours.get_input_embeddings().weight  # tied


@pytest.mark.parametrize("embedding", ["Q8_0", "F16"])
def test_a_head_of_its_own(embedding, tmp_path):
    path = write(tmp_path / "model.gguf", "Q4_0", embedding, **{"output.weight": (VOCAB, HIDDEN)})
    ours = gguf.load_blocks(path, torch.float32)
    theirs = matrices(gguf.load_dequantized(path, torch.float32))
    for name, values in matrices(ours).items():
        assert torch.equal(values, theirs[name]), name


def test_what_has_no_kernel_becomes_numbers(tmp_path):
    path = write(tmp_path / "model.gguf", "Q5_0", "F16")
    ours = gguf.load_blocks(path, torch.bfloat16)
    assert ours.lm_head.weight is ours.get_input_embeddings().weight
    assert not any(isinstance(module, QuantizedLinear) for module in ours.modules())
    theirs = gguf.load_dequantized(path, torch.bfloat16).state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items())


def test_six_bits_are_rounded_to_eight():
    generator = np.random.default_rng(0)
    blocks = random_q6_k((20, 512), generator)
    found = QuantizedLinear(gguf._PACKED["Q6_K"](torch.from_numpy(blocks).view(20, 2, 210)), 20)
    from gguf import dequantize

    exact = torch.from_numpy(dequantize(blocks, GGMLQuantizationType.Q6_K))
    error = (found.rows(torch.arange(20)) - exact).abs().unflatten(1, (-1, 32))
    largest = exact.abs().unflatten(1, (-1, 32)).amax(-1, keepdim=True)
    assert (error <= largest * (0.5 / 127 + 2**-10)).all()


def test_it_runs(tmp_path):
    model = gguf.load_blocks(write(tmp_path / "model.gguf", "Q4_1", "Q8_0"), torch.float32)
    plain = gguf.load_dequantized(tmp_path / "model.gguf", torch.float32)
    tokens = [3, 40, 7, 7, 12]
    got = Single.of(model.requires_grad_(False), max_len=16, max_nodes=8).forward(
        tokens, [-1, 0, 1, 2, 3]
    )
    with torch.inference_mode():
        expected = plain(torch.tensor([tokens])).logits[0]
    assert torch.cosine_similarity(got, expected, dim=-1).min() > 0.99


def test_a_file_that_lacks_a_tensor(tmp_path, monkeypatch):
    kept = {name: shape for name, shape in shapes(False).items() if "blk.1.ffn_up" not in name}
    monkeypatch.setitem(globals(), "shapes", lambda biased: kept)
    path = write(tmp_path / "model.gguf", "Q4_0", "Q8_0")
    with pytest.raises(ValueError, match=r"expected a tensor for model\.layers\.1\.mlp\.up_proj"):
        gguf.load_blocks(path, torch.float32)

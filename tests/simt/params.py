"""The kernels' parameter structs, as csrc/*/params.h declares them, made from tensors."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

from torch import Tensor


def pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, c_void_p) for name in names]


def integers(*names: str) -> list[tuple[str, type]]:
    return [(name, c_int64) for name in names]


class KvStrides(Structure):
    _fields_ = integers("outer", "slot", "head")

    @classmethod
    def of(cls, values: Tensor) -> KvStrides:
        """values [P, S, Hkv, D] or [B, T, Hkv, D]"""
        return cls(*values.stride()[:3])


class BlockTable(Structure):
    _fields_ = [*pointers("pages"), *integers("row_stride", "page_size")]

    @classmethod
    def of(cls, block_table: Tensor, page_size: int) -> BlockTable:
        return cls(block_table.data_ptr(), block_table.stride(0), page_size)


class TreeMaskParams(Structure):
    _fields_ = [
        *pointers("parents", "n_nodes", "ancestor_mask", "depth"),
        *integers("parents_stride", "mask_batch_stride", "mask_row_stride", "depth_stride"),
        *integers("batch_size", "max_nodes", "num_words"),
    ]

    @classmethod
    def of(
        cls, parents: Tensor, n_nodes: Tensor, ancestor_mask: Tensor, depth: Tensor
    ) -> TreeMaskParams:
        tensors = (parents, n_nodes, ancestor_mask, depth)
        return cls(
            *(t.data_ptr() for t in tensors),
            parents.stride(0),
            *ancestor_mask.stride()[:2],
            depth.stride(0),
            *ancestor_mask.shape,
        )


class AppendKvParams(Structure):
    _fields_ = [
        *pointers("k", "v", "k_cache", "v_cache"),
        ("k_strides", KvStrides),
        ("v_strides", KvStrides),
        ("k_cache_strides", KvStrides),
        ("v_cache_strides", KvStrides),
        ("block_table", BlockTable),
        *pointers("start", "n_tokens"),
        *integers("batch_size", "max_tokens", "num_kv_heads", "head_dim", "element_size"),
    ]

    @classmethod
    def of(
        cls,
        k: Tensor,
        v: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        block_table: Tensor,
        start: Tensor,
        n_tokens: Tensor,
    ) -> AppendKvParams:
        data = (k, v, k_cache, v_cache)
        return cls(
            *(t.data_ptr() for t in data),
            *(KvStrides.of(t) for t in data),
            BlockTable.of(block_table, k_cache.shape[1]),
            start.data_ptr(),
            n_tokens.data_ptr(),
            *k.shape,
            k.element_size(),
        )


MAX_LAYERS = 240


class CompactKvParams(Structure):
    _fields_ = [
        ("k_caches", c_void_p * MAX_LAYERS),
        ("v_caches", c_void_p * MAX_LAYERS),
        ("k_strides", KvStrides),
        ("v_strides", KvStrides),
        ("block_table", BlockTable),
        *pointers("context_lens", "keep", "keep_lens"),
        *integers("keep_stride", "num_layers", "batch_size", "max_keep"),
        *integers("num_kv_heads", "head_dim", "element_size"),
    ]

    @classmethod
    def of(
        cls,
        k_caches: list[Tensor],
        v_caches: list[Tensor],
        block_table: Tensor,
        context_lens: Tensor,
        keep: Tensor,
        keep_lens: Tensor,
    ) -> CompactKvParams:
        k, v = k_caches[0], v_caches[0]
        return cls(
            (c_void_p * MAX_LAYERS)(*(cache.data_ptr() for cache in k_caches)),
            (c_void_p * MAX_LAYERS)(*(cache.data_ptr() for cache in v_caches)),
            KvStrides.of(k),
            KvStrides.of(v),
            BlockTable.of(block_table, k.shape[1]),
            *(t.data_ptr() for t in (context_lens, keep, keep_lens)),
            keep.stride(0),
            len(k_caches),
            *keep.shape,
            *k.shape[2:],
            k.element_size(),
        )

"""The kernels' parameter structs, as csrc/*/params.h declares them, made from tensors."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

from torch import Tensor


def pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, c_void_p) for name in names]


def integers(*names: str) -> list[tuple[str, type]]:
    return [(name, c_int64) for name in names]


class KvStrides(Structure):
    _fields_ = integers("page", "slot", "head")

    @classmethod
    def of(cls, cache: Tensor) -> KvStrides:
        """cache [P, S, Hkv, D]"""
        return cls(*cache.stride()[:3])


class RowStrides(Structure):
    _fields_ = integers("row", "head")

    @classmethod
    def of(cls, rows: Tensor) -> RowStrides:
        """rows [T, H, D] or [T, H]"""
        return cls(*rows.stride()[:2])


class BlockTable(Structure):
    _fields_ = [*pointers("pages"), *integers("row_stride", "page_size")]

    @classmethod
    def of(cls, block_table: Tensor, page_size: int) -> BlockTable:
        return cls(block_table.data_ptr(), block_table.stride(0), page_size)


class TreeMaskParams(Structure):
    _fields_ = [
        *pointers("parents", "n_nodes", "row_indptr", "ancestor_mask", "depth"),
        *integers("parents_stride", "mask_stride", "batch_size", "num_rows", "num_words"),
    ]

    @classmethod
    def of(
        cls,
        parents: Tensor,
        n_nodes: Tensor,
        row_indptr: Tensor,
        ancestor_mask: Tensor,
        depth: Tensor,
    ) -> TreeMaskParams:
        tensors = (parents, n_nodes, row_indptr, ancestor_mask, depth)
        return cls(
            *(t.data_ptr() for t in tensors),
            parents.stride(0),
            ancestor_mask.stride(0),
            len(n_nodes),
            *ancestor_mask.shape,
        )


class AppendKvParams(Structure):
    _fields_ = [
        *pointers("k", "v", "k_cache", "v_cache"),
        ("k_strides", RowStrides),
        ("v_strides", RowStrides),
        ("k_cache_strides", KvStrides),
        ("v_cache_strides", KvStrides),
        ("block_table", BlockTable),
        *pointers("start", "row_indptr"),
        *integers("batch_size", "num_rows", "num_kv_heads", "head_dim", "element_size"),
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
        row_indptr: Tensor,
    ) -> AppendKvParams:
        return cls(
            *(t.data_ptr() for t in (k, v, k_cache, v_cache)),
            *(RowStrides.of(t) for t in (k, v)),
            *(KvStrides.of(t) for t in (k_cache, v_cache)),
            BlockTable.of(block_table, k_cache.shape[1]),
            start.data_ptr(),
            row_indptr.data_ptr(),
            len(start),
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

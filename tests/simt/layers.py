"""Params of csrc/forward/params.h, made from tensors."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int, c_uint8

from torch import Tensor

from tests.ops.layer_cases import RopeCase
from tests.simt.attention import DTYPES
from tests.simt.params import AppendKvParams, RowStrides, integers, pointers

ACTIVATIONS = ["silu_and_mul", "gelu_tanh_and_mul"]


class RmsNorm(Structure):
    _fields_ = [*pointers("weight"), ("eps", c_float), ("offset", c_float)]

    @classmethod
    def of(cls, weight: Tensor | None, eps: float, offset: float) -> RmsNorm:
        return cls(None if weight is None else weight.data_ptr(), eps, offset)


class AddRmsNormParams(Structure):
    _fields_ = [
        ("dtype", c_uint8),
        *pointers("x", "residual", "out"),
        *integers("x_stride", "residual_stride", "out_stride"),
        ("norm", RmsNorm),
        *integers("num_rows", "width"),
    ]

    @classmethod
    def of(cls, x: Tensor | None, residual: Tensor, out: Tensor, norm: RmsNorm) -> AddRmsNormParams:
        pointer, stride = (None, 0) if x is None else (x.data_ptr(), x.stride(0))
        return cls(
            DTYPES[out.dtype],
            *(pointer, residual.data_ptr(), out.data_ptr()),
            *(stride, residual.stride(0), out.stride(0)),
            norm,
            *out.shape,
        )


class GatedActivationParams(Structure):
    _fields_ = [
        ("dtype", c_uint8),
        ("activation", c_int),
        *pointers("gate_up", "out"),
        *integers("gate_up_stride", "out_stride", "num_rows", "width"),
    ]

    @classmethod
    def of(cls, name: str, gate_up: Tensor, out: Tensor) -> GatedActivationParams:
        pointers = gate_up.data_ptr(), out.data_ptr()
        strides = gate_up.stride(0), out.stride(0)
        return cls(DTYPES[out.dtype], ACTIVATIONS.index(name), *pointers, *strides, *out.shape)


class Rope(Structure):
    _fields_ = [*pointers("cos", "sin"), *integers("dim")]


class RopeAppendKvParams(Structure):
    _fields_ = [
        ("dtype", c_uint8),
        *pointers("q"),
        ("q_strides", RowStrides),
        *integers("num_qo_heads"),
        ("q_norm", RmsNorm),
        ("k_norm", RmsNorm),
        ("rope", Rope),
        *pointers("position_ids"),
        ("append", AppendKvParams),
    ]

    @classmethod
    def of(cls, case: RopeCase) -> RopeAppendKvParams:
        append = (case.k, case.v, case.k_cache, case.v_cache, case.block_table)
        return cls(
            DTYPES[case.q.dtype],
            case.q.data_ptr(),
            RowStrides.of(case.q),
            case.q.shape[1],
            RmsNorm.of(case.q_norm, case.eps, case.offset),
            RmsNorm.of(case.k_norm, case.eps, case.offset),
            Rope(case.cos.data_ptr(), case.sin.data_ptr(), 2 * case.cos.shape[1]),
            case.position_ids.data_ptr(),
            AppendKvParams.of(*append, case.start, case.row_indptr),
        )

#pragma once

#include <pybind11/gil_safe_call_once.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/stable/tensor.h>

// torch's tensors as arguments of bound functions. The stable ABI has no way from a Python object
// to a tensor; this is the one that Inductor's own wrappers take.
namespace pybind11::detail {

struct TensorHandles {
  object tensor_type = module_::import("torch").attr("Tensor");
  object new_handle = module_::import("torch._C._aoti").attr("unsafe_alloc_void_ptr_from_tensor");

  static const TensorHandles& get() {
    PYBIND11_CONSTINIT static gil_safe_call_once_and_store<TensorHandles> stored;
    return stored.call_once_and_store_result([] { return TensorHandles(); }).get_stored();
  }
};

template <>
struct type_caster<torch::stable::Tensor> {
  PYBIND11_TYPE_CASTER(torch::stable::Tensor, const_name("torch.Tensor"));

  bool load(handle source, bool /*convert*/) {
    const TensorHandles& handles = TensorHandles::get();
    if (!isinstance(source, handles.tensor_type)) return false;
    const object capsule = handles.new_handle(source);
    void* owned = PyCapsule_GetPointer(capsule.ptr(), PyCapsule_GetName(capsule.ptr()));
    if (owned == nullptr) throw error_already_set();
    value = torch::stable::Tensor(static_cast<AtenTensorHandle>(owned));
    return true;
  }
};

}  // namespace pybind11::detail

# The Python module specbranch._C: the kernels, their registration with torch, and the bindings.

execute_process(
  COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
  OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 CONFIG REQUIRED)

pybind11_add_module(_C MODULE NO_EXTRAS csrc/bindings.cpp csrc/forward/decoder.cpp
                    csrc/forward/linear.cpp csrc/forward_bindings.cpp csrc/register.cpp
                    csrc/torch_ops/attention.cpp csrc/torch_ops/cuda_stream.cpp
                    csrc/torch_ops/decoder.cpp csrc/torch_ops/forward.cpp
                    csrc/torch_ops/kv_cache.cpp
                    csrc/torch_ops/linear.cpp csrc/torch_ops/linears.cpp
                    csrc/torch_ops/packed_linear.cpp
                    csrc/torch_ops/sampling.cpp
                    csrc/torch_ops/tensor_arg.cpp csrc/torch_ops/verify.cpp
                    csrc/tree/reliability.cpp csrc/tree/rounds.cpp csrc/tree/tree.cpp
                    csrc/tree_bindings.cpp csrc/workspace_sizes.cpp ${kernel_objects})
target_include_directories(_C PRIVATE csrc ${generated_include_dir} ${SPECBRANCH_CONFIG_DIR})
# libtorch_cpu exports some of the C++ runtime's symbols too: the runtime's own come first.
target_link_libraries(_C PRIVATE stdc++ torch_cpu ${CMAKE_DL_LIBS})
# One binary for every torch from 2.11 on: only that version's stable ABI is in reach.
target_compile_definitions(_C PRIVATE TORCH_TARGET_VERSION=0x020b000000000000)
target_link_options(_C PRIVATE -Wl,--as-needed -Wl,-s
                    -Wl,--version-script=${CMAKE_CURRENT_LIST_DIR}/exports.map)
set_property(TARGET _C APPEND PROPERTY LINK_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/exports.map)
if(SPECBRANCH_WITH_CUDA)
  target_compile_definitions(_C PRIVATE SPECBRANCH_WITH_CUDA)
endif()
set_target_properties(_C PROPERTIES INSTALL_RPATH "${SPECBRANCH_RPATH}"
                                    BUILD_WITH_INSTALL_RPATH ON)
install(TARGETS _C LIBRARY DESTINATION .)
install(CODE "message(STATUS \"${SPECBRANCH_SUMMARY}\")")  # once more, at the end

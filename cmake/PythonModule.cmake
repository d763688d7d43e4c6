# The Python module specbranch._C: the kernels, their registration with torch, and the bindings.

execute_process(
  COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
  OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 CONFIG REQUIRED)

pybind11_add_module(_C MODULE NO_EXTRAS csrc/bindings.cpp csrc/register.cpp ${torch_op_sources}
                    ${kernel_objects})
target_include_directories(_C PRIVATE csrc ${SPECBRANCH_CONFIG_DIR})
target_link_libraries(_C PRIVATE torch_cpu ${CMAKE_DL_LIBS})
# One binary for every torch from 2.11 on: only that version's stable ABI is in reach.
target_compile_definitions(_C PRIVATE TORCH_TARGET_VERSION=0x020b000000000000)
target_link_options(_C PRIVATE -Wl,--as-needed -Wl,-s)
if(SPECBRANCH_WITH_CUDA)
  target_compile_definitions(_C PRIVATE SPECBRANCH_WITH_CUDA)
endif()
set_target_properties(_C PROPERTIES INSTALL_RPATH "${SPECBRANCH_RPATH}"
                                    BUILD_WITH_INSTALL_RPATH ON)
install(TARGETS _C LIBRARY DESTINATION .)

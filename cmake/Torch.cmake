# Headers and libtorch_cpu of the torch that Python_EXECUTABLE imports, without importing it and
# without TorchConfig.cmake (which insists on a CUDA toolkit where torch was built with one).
#
# Defines the target torch_cpu, SPECBRANCH_TORCH_VERSION, SPECBRANCH_TORCH_LIB_DIR and, where it is a
# CUDA build, SPECBRANCH_TORCH_CUDA, the version of CUDA.

execute_process(
  COMMAND ${Python_EXECUTABLE} -c
          "import importlib.util as u, importlib.metadata as m; \
print(u.find_spec('torch').submodule_search_locations[0], m.version('torch'), sep=';')"
  OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "torch not found by ${Python_EXECUTABLE}: pip install torch==2.13.0")
endif()
list(GET found 0 torch_dir)
list(GET found 1 SPECBRANCH_TORCH_VERSION)
if(SPECBRANCH_TORCH_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "torch 2.11 or newer is needed to build, found ${SPECBRANCH_TORCH_VERSION}")
endif()
set(SPECBRANCH_TORCH_LIB_DIR ${torch_dir}/lib)
file(STRINGS ${torch_dir}/version.py cuda_line REGEX "^cuda.*= *'")
string(REGEX REPLACE "^cuda.*= *'([^']*)'.*" "\\1" SPECBRANCH_TORCH_CUDA "${cuda_line}")

add_library(torch_cpu SHARED IMPORTED)
set_target_properties(
  torch_cpu PROPERTIES IMPORTED_LOCATION ${SPECBRANCH_TORCH_LIB_DIR}/libtorch_cpu.so
                       INTERFACE_INCLUDE_DIRECTORIES ${torch_dir}/include)

# Whether CUDA kernels are built, with which nvcc and for which architectures.
#
# Sets SPECBRANCH_WITH_CUDA, SPECBRANCH_CUDA_VERSION, SPECBRANCH_CUDA_ARCHS and the one line
# SPECBRANCH_CUDA_REASON. No GPU and no CUDA build of torch is needed: the kernels see no torch and
# link with the static CUDA runtime.

set(SPECBRANCH_WITH_CUDA OFF)
set(SPECBRANCH_CUDA_VERSION "")
set(SPECBRANCH_CUDA_ARCHS "")

# "8.0;9.0a;12.0+PTX" (or with spaces) as torch writes it -> "80-real;90a-real;120".
function(specbranch_cuda_archs list variable)
  string(REPLACE " " ";" list "${list}")
  set(archs "")
  foreach(arch IN LISTS list)
    string(REPLACE "." "" number "${arch}")
    if(number MATCHES "^([0-9]+[af]?)\\+PTX$")
      list(APPEND archs ${CMAKE_MATCH_1})
    elseif(number MATCHES "^[0-9]+[af]?$")
      list(APPEND archs ${number}-real)
    else()
      message(FATAL_ERROR "TORCH_CUDA_ARCH_LIST: expected e.g. 8.0;9.0;12.0+PTX, got '${arch}'")
    endif()
  endforeach()
  set(${variable} ${archs} PARENT_SCOPE)
endfunction()

# Those of this machine's GPUs, unless the kernels are to run anywhere: the data-centre and consumer
# generations that we tune for, as far as this nvcc knows them; the newest one also as PTX, for
# whatever comes later.
function(specbranch_default_cuda_archs variable)
  find_program(SPECBRANCH_NVIDIA_SMI nvidia-smi)
  if(SPECBRANCH_NVIDIA_SMI AND SPECBRANCH_CPU_DISPATCH STREQUAL "native")
    execute_process(
      COMMAND ${SPECBRANCH_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
      OUTPUT_VARIABLE here ERROR_QUIET)
    string(REGEX MATCHALL "[0-9]+\\.[0-9]+" here "${here}")
    if(here)
      list(REMOVE_DUPLICATES here)
      set(${variable} "${here}" PARENT_SCOPE)
      return()
    endif()
  endif()
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE known)
  set(archs "")
  foreach(arch IN ITEMS 8.0 9.0 10.0 12.0)
    string(REPLACE "." "" number ${arch})
    if(known MATCHES "compute_${number}\n")
      list(APPEND archs ${arch})
    endif()
  endforeach()
  list(JOIN archs ";" archs)
  set(${variable} "${archs}+PTX" PARENT_SCOPE)
endfunction()

if(NOT SPECBRANCH_CUDA STREQUAL "AUTO" AND NOT SPECBRANCH_CUDA)
  set(SPECBRANCH_CUDA_REASON "no CUDA kernels, because SPECBRANCH_CUDA=0")
  return()
endif()

# The toolkit that CUDA_HOME names goes before the nvcc on PATH, and that before the usual place.
if(NOT CMAKE_CUDA_COMPILER AND EXISTS "$ENV{CUDA_HOME}/bin/nvcc")
  set(CMAKE_CUDA_COMPILER $ENV{CUDA_HOME}/bin/nvcc)
elseif(NOT CMAKE_CUDA_COMPILER AND "$ENV{CUDACXX}" STREQUAL "")
  find_program(SPECBRANCH_NVCC nvcc PATHS /usr/local/cuda/bin NO_CACHE)
  if(SPECBRANCH_NVCC)
    set(CMAKE_CUDA_COMPILER ${SPECBRANCH_NVCC})
  endif()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(SPECBRANCH_CUDA STREQUAL "AUTO")
    set(SPECBRANCH_CUDA_REASON "no CUDA kernels, because no working nvcc was found")
    if(SPECBRANCH_TORCH_CUDA)
      message(WARNING "torch is built for CUDA ${SPECBRANCH_TORCH_CUDA}, but there will be "
                      "${SPECBRANCH_CUDA_REASON}: set CUDA_HOME or PATH to use a GPU")
    endif()
    return()
  endif()
  message(FATAL_ERROR "SPECBRANCH_CUDA=1, but no working nvcc was found: set CUDA_HOME or PATH")
endif()

set(CMAKE_CUDA_ARCHITECTURES OFF)
enable_language(CUDA)
if("$ENV{TORCH_CUDA_ARCH_LIST}" STREQUAL "")
  specbranch_default_cuda_archs(arch_list)
else()
  set(arch_list "$ENV{TORCH_CUDA_ARCH_LIST}")
endif()
specbranch_cuda_archs("${arch_list}" SPECBRANCH_CUDA_ARCHS)
set(SPECBRANCH_WITH_CUDA ON)
set(SPECBRANCH_CUDA_VERSION ${CMAKE_CUDA_COMPILER_VERSION})
list(JOIN SPECBRANCH_CUDA_ARCHS " " archs)
set(SPECBRANCH_CUDA_REASON
    "CUDA ${SPECBRANCH_CUDA_VERSION} kernels for ${archs}, because ${CMAKE_CUDA_COMPILER} was found")

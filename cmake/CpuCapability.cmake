# Which capabilities the CPU kernels are compiled for, and how.
#
#   specbranch_choose_cpu_capabilities(<variable>)     e.g. DEFAULT;AVX2;AVX512
#   specbranch_add_cpu_variant(<target> <capability> <sources>...)

# at::vec falls back to scalar code unless CPU_CAPABILITY_* is defined beside the -m flags.
# csrc/common/cpu/capability.cpp must ask the processor for every flag given here.
set(SPECBRANCH_FLAGS_DEFAULT "")
set(SPECBRANCH_FLAGS_AVX2 -mavx2 -mfma -mf16c)
set(SPECBRANCH_FLAGS_AVX512 ${SPECBRANCH_FLAGS_AVX2} -mavx512f -mavx512bw -mavx512vl -mavx512dq
                            -mavx512vnni)

function(specbranch_native_cpu_capability variable)
  set(${variable} DEFAULT PARENT_SCOPE)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    return()
  endif()
  execute_process(
    COMMAND ${CMAKE_CXX_COMPILER} -march=native -dM -E -x c++ /dev/null
    OUTPUT_VARIABLE macros ERROR_QUIET)
  if(macros MATCHES "__AVX2__" AND macros MATCHES "__FMA__" AND macros MATCHES "__F16C__")
    set(${variable} AVX2 PARENT_SCOPE)
    if(macros MATCHES "__AVX512F__" AND macros MATCHES "__AVX512BW__"
       AND macros MATCHES "__AVX512VL__" AND macros MATCHES "__AVX512DQ__"
       AND macros MATCHES "__AVX512VNNI__")
      set(${variable} AVX512 PARENT_SCOPE)
    endif()
  endif()
endfunction()

function(specbranch_choose_cpu_capabilities variable)
  if(SPECBRANCH_CPU_DISPATCH STREQUAL "native")
    specbranch_native_cpu_capability(capabilities)
  elseif(NOT SPECBRANCH_CPU_DISPATCH STREQUAL "all")
    message(FATAL_ERROR "SPECBRANCH_CPU_DISPATCH: expected native or all, "
                        "got '${SPECBRANCH_CPU_DISPATCH}'")
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    set(capabilities DEFAULT AVX2 AVX512)
  else()
    set(capabilities DEFAULT)
  endif()
  set(${variable} ${capabilities} PARENT_SCOPE)
endfunction()

function(specbranch_add_cpu_variant target capability)
  add_library(${target} OBJECT ${ARGN})
  target_compile_options(${target} PRIVATE ${SPECBRANCH_FLAGS_${capability}})
  # GCC 12 takes the undefined vectors inside its own AVX-512 intrinsics for mistakes, and notes for
  # every wide vector passed by value that GCC 4.6 changed how.
  target_compile_options(
    ${target}
    PRIVATE
      "$<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized;-Wno-psabi>")
  target_compile_definitions(
    ${target} PRIVATE CPU_CAPABILITY=${capability} CPU_CAPABILITY_${capability})
endfunction()

# build_config.h: what build_info() tells of this build.

if(NOT SPECBRANCH_VERSION)
  file(STRINGS ${CMAKE_CURRENT_SOURCE_DIR}/pyproject.toml line REGEX "^version = ")
  string(REGEX MATCH "[0-9][^\"]*" SPECBRANCH_VERSION "${line}")
endif()
execute_process(
  COMMAND git describe --always --dirty --abbrev=12
  WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
  OUTPUT_VARIABLE SPECBRANCH_GIT_HASH OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT SPECBRANCH_GIT_HASH)
  set(SPECBRANCH_GIT_HASH unknown)
endif()
set(SPECBRANCH_CONFIG_DIR ${CMAKE_CURRENT_BINARY_DIR}/config)
configure_file(${CMAKE_CURRENT_LIST_DIR}/build_config.h.in
               ${SPECBRANCH_CONFIG_DIR}/build_config.h @ONLY)

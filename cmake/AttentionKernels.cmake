# The tensor-core kernels of branch_attention: one for each head dimension, element type and number
# of warps along the rows. This is their only list: sources and dispatch are made from it, with one
# source, and so one compiler, for each head dimension and element type.
#
#   specbranch_attention_kernels(<sources variable> <include directory variable>)

set(SPECBRANCH_MMA_HEAD_DIMS 64 96 128 256) # ascending; others use the next larger one
set(SPECBRANCH_MMA_DTYPES kFloat16 kBFloat16) # of DType
set(SPECBRANCH_MMA_WARPS_M 1 2 4) # ascending; of 16 rows each

function(specbranch_attention_kernels sources include_dir)
  set(templates ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../csrc/attention)
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/generated)
  list(JOIN SPECBRANCH_MMA_HEAD_DIMS ", " head_dims)
  list(TRANSFORM SPECBRANCH_MMA_DTYPES PREPEND "DType::" OUTPUT_VARIABLE dtypes)
  list(JOIN dtypes ", " dtypes)
  list(JOIN SPECBRANCH_MMA_WARPS_M ", " warps_m)
  configure_file(${templates}/mma_kernels.h.in ${generated}/attention/mma_kernels.h @ONLY)

  set(files "")
  foreach(head_dim IN LISTS SPECBRANCH_MMA_HEAD_DIMS)
    foreach(dtype IN LISTS SPECBRANCH_MMA_DTYPES)
      set(file ${generated}/attention/mma_hdim${head_dim}_${dtype}.cu)
      configure_file(${templates}/cuda/mma_kernels.cu.in ${file} @ONLY)
      list(APPEND files ${file})
    endforeach()
  endforeach()
  set(${sources} ${files} PARENT_SCOPE)
  set(${include_dir} ${generated} PARENT_SCOPE)
endfunction()

#include "bind.hpp"
#include "kv_cache/launch.h"

SIMT_LAUNCHER(append_kv, specbranch::AppendKvParams, specbranch::launch_append_kv)
SIMT_LAUNCHER(compact_kv, specbranch::CompactKvParams, specbranch::launch_compact_kv)

#include "bind.hpp"
#include "forward/launch.h"

SIMT_LAUNCHER(add_rms_norm, specbranch::AddRmsNormParams, specbranch::launch_add_rms_norm)
SIMT_LAUNCHER(gated_activation, specbranch::GatedActivationParams,
              specbranch::launch_gated_activation)
SIMT_LAUNCHER(rope_append_kv, specbranch::RopeAppendKvParams, specbranch::launch_rope_append_kv)

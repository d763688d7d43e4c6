#include "attention/launch.h"
#include "bind.hpp"

SIMT_LAUNCHER(tree_mask, specbranch::TreeMaskParams, specbranch::launch_tree_mask)

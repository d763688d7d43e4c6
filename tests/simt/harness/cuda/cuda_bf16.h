#pragma once

#include "cuda/float16.hpp"

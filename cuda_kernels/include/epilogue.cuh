// What a kernel does to a sum before it is stored.
#pragma once

#include "target.cuh"

// NaN stays NaN, so that a step that went wrong shows in its loss.
DEVICE float relu(float x) { return x < 0.0F ? 0.0F : x; }

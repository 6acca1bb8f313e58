// Taps as JavaScript gives them.
#pragma once
#include <napi.h>

#include <vector>

#include "script/taps.h"

namespace alambic::script {

// [{ path, input, argument, steps, whole? }]
std::vector<Tap> to_taps(const Napi::Value& value);

}  // namespace alambic::script

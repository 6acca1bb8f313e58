// Optimizers and gradient clipping as JavaScript objects and functions.
#pragma once
#include <napi.h>

namespace alambic {

void export_optimizers(Napi::Env env, Napi::Object exports);

}  // namespace alambic

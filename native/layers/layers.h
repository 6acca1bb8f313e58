// The native layers: one call per forward, their options decoded once.
#pragma once
#include <napi.h>

namespace alambic {

void export_layers(Napi::Env env, Napi::Object exports);

}  // namespace alambic

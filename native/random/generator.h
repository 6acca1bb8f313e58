// Random number generators: the default one per device, and own ones.
#pragma once
#include <ATen/core/Generator.h>
#include <napi.h>

namespace alambic {

// The libtorch generator behind a native Generator object.
at::Generator unwrap_generator(napi_env env, napi_value object);

// Generator, manualSeed, initialSeed, getRngState, setRngState.
void export_generator(Napi::Env env, Napi::Object exports);

}  // namespace alambic

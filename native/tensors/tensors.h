// Tensors: making them from data, reading them back, their metadata, their release.
#pragma once
#include <napi.h>

namespace alambic {

void export_tensors(Napi::Env env, Napi::Object exports);

}  // namespace alambic

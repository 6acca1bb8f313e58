// What this libtorch is and can do; threads.
#pragma once
#include <napi.h>

namespace alambic {

void export_system(Napi::Env env, Napi::Object exports);

}  // namespace alambic

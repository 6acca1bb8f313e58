// The compiled step as a JavaScript object.
#pragma once
#include <napi.h>

namespace alambic {

void export_compiled_step(Napi::Env env, Napi::Object exports);

}  // namespace alambic

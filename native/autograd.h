// Gradients.
#pragma once
#include <napi.h>

namespace alambic {

void export_autograd(Napi::Env env, Napi::Object exports);

}  // namespace alambic

// Which of libtorch's libraries and kernels may be used, as `torch.backends` in Python.
#pragma once
#include <napi.h>

namespace alambic {

void export_backends(Napi::Env env, Napi::Object exports);

}  // namespace alambic

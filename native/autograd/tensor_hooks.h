// Hooks of tensors: JavaScript functions that autograd calls with a gradient on its way.
#pragma once
#include <napi.h>

namespace alambic {

// While one lives, gradients are being computed for a caller in JavaScript that holds no reference into the
// table of tensors: only then may a hook run, for it can release any tensor.
class HooksMayRun {
 public:
  HooksMayRun();
  ~HooksMayRun();
  HooksMayRun(const HooksMayRun&) = delete;
  HooksMayRun& operator=(const HooksMayRun&) = delete;
};

void export_tensor_hooks(Napi::Env env, Napi::Object exports);

}  // namespace alambic

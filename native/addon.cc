// The addon's entry: one environment per thread, and everything that `lib/native/contract.ts` declares.
#include <napi.h>

#include <memory>

#include "autograd/autocast.h"
#include "autograd/autograd.h"
#include "autograd/tensor_hooks.h"
#include "calls/call_buffer.h"
#include "calls/dispatch.h"
#include "cuda/find_library.h"
#include "environment.h"
#include "errors.h"
#include "layers/layers.h"
#include "losses/distillation.h"
#include "losses/labels.h"
#include "memory/cpu_memory.h"
#include "optim/optimizers.h"
#include "random/generator.h"
#include "script/script_module.h"
#include "step/compiled_step.h"
#include "system/backends.h"
#include "system/system.h"
#include "system/warnings.h"
#include "tensors/storages.h"
#include "tensors/tensors.h"
#include "trace/module_export.h"
#include "trace/recording.h"

static Napi::Object export_all(Napi::Env env, Napi::Object exports) {
  using namespace alambic;
  auto environment = std::make_unique<Environment>(env);
  env.SetInstanceData(environment.get());
  environment.release();  // Node's from now on
  export_system(env, exports);
  export_tensors(env, exports);
  export_storages(env, exports);
  export_autocast(env, exports);
  export_autograd(env, exports);
  export_backends(env, exports);
  export_tensor_hooks(env, exports);
  export_cpu_memory(env, exports);
  cuda::export_cuda_library(env, exports);
  export_dispatch(env, exports);
  export_generator(env, exports);
  export_labels(env, exports);
  export_call_buffer(env, exports);
  export_layers(env, exports);
  export_losses(env, exports);
  export_optimizers(env, exports);
  export_script(env, exports);
  export_module_export(env, exports);
  export_recording(env, exports);
  export_compiled_step(env, exports);
  export_warnings(env, exports);
  return exports;
}

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  return alambic::guard(env, [&] { return export_all(env, exports); });
}

NODE_API_MODULE(alambic, initialize)

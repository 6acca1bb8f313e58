#include "layers/layers.h"

#include "layers/batch_norm.h"
#include "layers/convolution.h"
#include "layers/dropout.h"
#include "layers/embedding.h"
#include "layers/layer.h"
#include "layers/linear.h"
#include "layers/normalization.h"
#include "layers/pooling.h"

namespace alambic {

namespace {

// (x, added | undefined, activation): in place
Napi::Value activate(const Napi::CallbackInfo& info) {
  auto added = info[1].IsNumber() ? optional<at::Tensor>(to_tensor(info[1])) : nullopt;
  activate_(to_tensor(info[0]), added, static_cast<Activation>(to_integer(info[2], "activation")));
  return info.Env().Undefined();
}

}  // namespace

void export_layers(Napi::Env env, Napi::Object exports) {
  LayerObject<Convolution>::define(env, exports, "Convolution");
  LayerObject<Linear>::define(env, exports, "Linear");
  LayerObject<BatchNorm>::define(env, exports, "BatchNorm");
  LayerObject<GroupNorm>::define(env, exports, "GroupNorm");
  LayerObject<LayerNorm>::define(env, exports, "LayerNorm");
  LayerObject<MaxPool2d>::define(env, exports, "MaxPool2d");
  LayerObject<AvgPool2d>::define(env, exports, "AvgPool2d");
  LayerObject<AdaptivePool2d>::define(env, exports, "AdaptivePool2d");
  LayerObject<Dropout>::define(env, exports, "Dropout");
  LayerObject<Embedding>::define(env, exports, "Embedding");
  exports.Set("activate", Napi::Function::New<guarded<activate>>(env));
}

}  // namespace alambic

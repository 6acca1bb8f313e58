// How a layer, a plain C++ class, becomes a JavaScript class: `new Layer(options)` once, `layer.forward(…)`
// at each call. A layer holds no tensors: its parameters belong to the TypeScript module, which passes their
// handles.
//
//   class Layer {
//    public:
//     explicit Layer(const Options& options);
//     at::Tensor forward(const at::Tensor& x, const optional<at::Tensor>& weight) const;  // const, any
//     arguments const std::string& name() const;
//   };
#pragma once
#include <ATen/ATen.h>
#include <napi.h>

#include <sstream>
#include <string>
#include <type_traits>
#include <utility>

#include "compat.h"
#include "layers/options.h"
#include "tensors/values.h"

namespace alambic {

// One argument of `forward`: a tensor's handle, a handle or null, an integer, 0 unless given, or a boolean.
// Held by value: what a forward tells a recording is heard by JavaScript, which may release the tensor.
template <typename Argument>
Argument decode_argument(const Napi::Value& value) {
  if constexpr (std::is_same_v<Argument, at::Tensor>) {
    return to_tensor(value);
  } else if constexpr (std::is_same_v<Argument, optional<at::Tensor>>) {
    return value.IsNumber() ? optional<at::Tensor>(to_tensor(value)) : nullopt;
  } else if constexpr (std::is_same_v<Argument, int64_t>) {
    return value.IsNumber() ? value.As<Napi::Number>().Int64Value() : int64_t{0};
  } else {
    static_assert(std::is_same_v<Argument, bool>);
    return value.ToBoolean().Value();
  }
}

template <typename Layer>
class LayerObject : public Napi::ObjectWrap<LayerObject<Layer>> {
 public:
  static void define(Napi::Env env, Napi::Object exports, const char* class_name) {
    exports.Set(class_name,
                LayerObject::DefineClass(env, class_name,
                                         {LayerObject::InstanceMethod("forward", &LayerObject::forward)}));
  }

  explicit LayerObject(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<LayerObject<Layer>>(info),
        layer_(guard(info.Env(), [&] { return Layer(Options(info[0])); })) {}

 private:
  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guard(info.Env(), [&] {
      try {
        return from_tensor(info.Env(), call(info, &Layer::forward));
      } catch (const c10::Error&) {
        rethrow_with_context(tensors_of(info, &Layer::forward));
      }
    });
  }

  template <typename... Arguments>
  at::Tensor call(const Napi::CallbackInfo& info, at::Tensor (Layer::*forward)(Arguments...) const) {
    return call(info, forward, std::index_sequence_for<Arguments...>());
  }
  template <typename... Arguments, size_t... index>
  at::Tensor call(const Napi::CallbackInfo& info, at::Tensor (Layer::*forward)(Arguments...) const,
                  std::index_sequence<index...>) {
    return (layer_.*forward)(decode_argument<std::decay_t<Arguments>>(info[index])...);
  }

  // For messages.
  template <typename... Arguments>
  static std::string tensors_of(const Napi::CallbackInfo& info, at::Tensor (Layer::*)(Arguments...) const) {
    constexpr bool may_be_tensor[] = {std::is_same_v<std::decay_t<Arguments>, at::Tensor> ||
                                      std::is_same_v<std::decay_t<Arguments>, optional<at::Tensor>>...};
    std::ostringstream tensors;
    for (size_t i = 0; i < sizeof...(Arguments); i++)
      if (may_be_tensor[i] && info[i].IsNumber())
        tensors << (tensors.tellp() > 0 ? ", " : "") << describe(to_tensor(info[i]));
    return tensors.str();
  }

  // libtorch's message, preceded by the layer's name and followed by the tensors it was given.
  [[noreturn]] void rethrow_with_context(const std::string& tensors) {
    auto error = describe_exception(std::current_exception());
    fail(error.code(), layer_.name(), ": ", error.what(), " (", tensors, ")");
  }

  Layer layer_;
};

}  // namespace alambic

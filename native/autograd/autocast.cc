#include "autograd/autocast.h"

#include <ATen/autocast_mode.h>

#include "errors.h"
#include "tensors/values.h"

namespace alambic {

namespace {

bool has_autocast(at::DeviceType device) { return device == at::kCPU || device == at::kCUDA; }

optional<at::ScalarType> current_dtype(at::DeviceType device) {
  return compat::is_autocast_enabled(device) ? optional<at::ScalarType>(compat::autocast_dtype_of(device))
                                             : nullopt;
}

// The casts of parameters are good until the parameters change.
void end_if_off(at::DeviceType device) {
  if (!compat::is_autocast_enabled(device)) at::autocast::clear_cache();
}

void set_mode(at::DeviceType device, optional<at::ScalarType> dtype) {
  if (dtype) compat::set_autocast_dtype(device, *dtype);
  compat::set_autocast_enabled(device, dtype.has_value());
  end_if_off(device);
}

// setAutocast(device, dtype | null) -> what it was; per thread
Napi::Value set_autocast(const Napi::CallbackInfo& info) {
  auto device = parse_device(to_text(info[0], "device")).type();
  if (!has_autocast(device))
    fail("ERR_DEVICE", "autocast: expected the device 'cpu' or 'cuda', got '", to_text(info[0], "device"),
         "'");
  auto before = current_dtype(device);
  set_mode(device, info[1].IsNull() ? optional<at::ScalarType>()
                                    : optional<at::ScalarType>(parse_dtype(to_text(info[1], "dtype"))));
  if (!before) return info.Env().Null();
  return Napi::String::New(info.Env(), dtype_name(*before));
}

}  // namespace

optional<at::ScalarType> autocast_dtype(const at::Tensor& tensor) {
  auto device = tensor.device().type();
  return has_autocast(device) ? current_dtype(device) : nullopt;
}

at::Tensor autocast(const at::Tensor& tensor) {
  auto dtype = autocast_dtype(tensor);
  return dtype ? at::autocast::cached_cast(*dtype, tensor, tensor.device().type()) : tensor;
}

optional<at::Tensor> autocast(const optional<at::Tensor>& tensor) {
  return tensor ? optional<at::Tensor>(autocast(*tensor)) : nullopt;
}

AutocastMode AutocastMode::current() { return {current_dtype(at::kCPU), current_dtype(at::kCUDA)}; }

WithAutocast::WithAutocast(const AutocastMode& mode) : before_(AutocastMode::current()) {
  set_mode(at::kCPU, mode.cpu);
  set_mode(at::kCUDA, mode.cuda);
}

WithAutocast::~WithAutocast() {
  set_mode(at::kCPU, before_.cpu);
  set_mode(at::kCUDA, before_.cuda);
}

void export_autocast(Napi::Env env, Napi::Object exports) {
  exports.Set("setAutocast", Napi::Function::New<guarded<set_autocast>>(env));
}

}  // namespace alambic

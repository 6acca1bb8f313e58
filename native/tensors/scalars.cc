#include "tensors/scalars.h"

namespace alambic {

// Number.isSafeInteger
static bool is_safe_integer(int64_t value) { return value <= 9007199254740991 && value >= -9007199254740991; }

Napi::Value encode_scalar(Napi::Env env, const c10::Scalar& scalar) {
  if (scalar.isBoolean()) return Napi::Boolean::New(env, scalar.toBool());
  if (scalar.isComplex()) {
    auto value = scalar.toComplexDouble();
    auto object = Napi::Object::New(env);
    object.Set("re", value.real());
    object.Set("im", value.imag());
    return object;
  }
  if (scalar.isIntegral(false) && !is_safe_integer(scalar.toLong()))
    return Napi::BigInt::New(env, static_cast<int64_t>(scalar.toLong()));
  return Napi::Number::New(env, scalar.toDouble());
}

}  // namespace alambic

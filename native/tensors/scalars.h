// Scalars as JavaScript values.
#pragma once
#include <c10/core/Scalar.h>
#include <napi.h>

namespace alambic {

// number, boolean, { re, im }, or a bigint where a number would lose digits.
Napi::Value encode_scalar(Napi::Env env, const c10::Scalar& scalar);

}  // namespace alambic

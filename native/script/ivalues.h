// TorchScript's values as JavaScript's, by the types of a method's schema.
//
// lib/script/values.ts encodes what is no plain value, so that nothing is ambiguous:
//   a tensor   { tensor: handle }                  a list or tuple   an array
//   an object  { keys: [...], values: [...] }      and back also { …, isMap: true } for keys that are not
//   strings
#pragma once
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <napi.h>

#include <string>

namespace alambic::script {

// `where` begins the message of an error: "forward: x".
c10::IValue to_ivalue(const Napi::Value& value, const c10::TypePtr& type, const std::string& where);

// Throws ERR_NOT_IMPLEMENTED before it makes a handle when something in `value` has no JavaScript form.
Napi::Value from_ivalue(Napi::Env env, const c10::IValue& value, const std::string& where);

// Whether a plain JavaScript object can stand for a value of this type.
bool accepts_object(const c10::TypePtr& type);

// A type as Python writes it: `Optional[List[Tensor]]`.
std::string type_name(const c10::TypePtr& type);

}  // namespace alambic::script

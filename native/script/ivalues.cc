#include "script/ivalues.h"

#include <ATen/core/enum_type.h>

#include <cmath>

#include "compat.h"
#include "environment.h"
#include "errors.h"
#include "tensors/scalars.h"
#include "tensors/values.h"

namespace alambic::script {

using c10::IValue;
using c10::TypeKind;
using c10::TypePtr;

namespace {

bool is_none(const Napi::Value& value) { return value.IsUndefined() || value.IsNull(); }
bool is_tensor(const Napi::Value& value) {
  return value.IsObject() && !value.IsArray() && value.As<Napi::Object>().Has("tensor");
}
bool is_object(const Napi::Value& value) {
  return value.IsObject() && !value.IsArray() && value.As<Napi::Object>().Has("keys");
}

// For messages: the kind of an encoded value, and short ones as they are.
std::string show(const Napi::Value& value) {
  if (is_none(value)) return "nothing";
  if (value.IsArray()) return c10::str("an array of ", value.As<Napi::Array>().Length());
  if (is_tensor(value)) return "a tensor";
  if (is_object(value)) return "an object";
  auto text = value.ToString().Utf8Value();
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return value.IsString() ? '"' + text + '"' : text;
}

[[noreturn]] void refuse(const std::string& where, const TypePtr& type, const Napi::Value& value) {
  fail("ERR_ARGUMENT", where, ": expected ", type_name(type), ", got ", show(value));
}

bool is_whole(double number) { return std::trunc(number) == number && std::abs(number) <= 9.2e18; }

int64_t to_int(const Napi::Value& value, const TypePtr& type, const std::string& where) {
  if (value.IsBigInt()) return to_integer(value, where.c_str());
  if (!value.IsNumber() || !is_whole(value.As<Napi::Number>().DoubleValue())) refuse(where, type, value);
  return static_cast<int64_t>(value.As<Napi::Number>().DoubleValue());
}

// `keys` and `values` of an encoded object.
struct Entries {
  explicit Entries(const Napi::Value& value)
      : keys(value.As<Napi::Object>().Get("keys").As<Napi::Array>()),
        values(value.As<Napi::Object>().Get("values").As<Napi::Array>()) {}
  uint32_t size() const { return keys.Length(); }
  // Undefined where there is no such key.
  Napi::Value find(const std::string& name) const {
    for (uint32_t i = 0; i < size(); i++) {
      auto key = keys.Get(i);
      if (key.IsString() && key.As<Napi::String>().Utf8Value() == name) return values.Get(i);
    }
    return keys.Env().Undefined();
  }
  Napi::Array keys, values;
};

c10::complex<double> to_complex(const Napi::Value& value, const TypePtr& type, const std::string& where) {
  if (value.IsNumber()) return value.As<Napi::Number>().DoubleValue();
  if (is_object(value)) {
    Entries entries(value);
    auto re = entries.find("re"), im = entries.find("im");
    if (re.IsNumber() && im.IsNumber())
      return {re.As<Napi::Number>().DoubleValue(), im.As<Napi::Number>().DoubleValue()};
  }
  refuse(where, type, value);
}

IValue to_number(const Napi::Value& value, const TypePtr& type, const std::string& where) {
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  if (value.IsObject()) return to_complex(value, type, where);
  if (value.IsNumber() && !is_whole(value.As<Napi::Number>().DoubleValue()))
    return value.As<Napi::Number>().DoubleValue();
  return to_int(value, type, where);
}

IValue to_list(const Napi::Value& value, const TypePtr& type, const std::string& where) {
  if (!value.IsArray()) refuse(where, type, value);
  auto array = value.As<Napi::Array>();
  const auto& element = type->castRaw<c10::ListType>()->getElementType();
  c10::impl::GenericList list(element);
  list.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++)
    list.push_back(to_ivalue(array.Get(i), element, c10::str(where, "[", i, "]")));
  return list;
}

IValue to_dict(const Napi::Value& value, const TypePtr& type, const std::string& where) {
  if (!is_object(value)) refuse(where, type, value);
  auto dict_type = type->castRaw<c10::DictType>();
  c10::impl::GenericDict dict(dict_type->getKeyType(), dict_type->getValueType());
  Entries entries(value);
  for (uint32_t i = 0; i < entries.size(); i++) {
    auto name = c10::str(where, "[", show(entries.keys.Get(i)), "]");
    dict.insert(to_ivalue(entries.keys.Get(i), dict_type->getKeyType(), name),
                to_ivalue(entries.values.Get(i), dict_type->getValueType(), name));
  }
  return dict;
}

// Tuples with names also take an object.
IValue to_tuple(const Napi::Value& value, const TypePtr& type, const std::string& where) {
  auto tuple = type->cast<c10::TupleType>();
  auto types = tuple->elements();
  std::vector<IValue> elements;
  if (tuple->schema() && is_object(value)) {
    Entries entries(value);
    for (size_t i = 0; i < types.size(); i++) {
      const auto& argument = tuple->schema()->arguments()[i];
      auto given = entries.find(argument.name());
      elements.push_back(given.IsUndefined() && argument.default_value()
                             ? *argument.default_value()
                             : to_ivalue(given, types[i], where + "." + argument.name()));
    }
  } else {
    if (!value.IsArray() || value.As<Napi::Array>().Length() != types.size()) refuse(where, type, value);
    auto array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < types.size(); i++)
      elements.push_back(to_ivalue(array.Get(i), types[i], c10::str(where, "[", i, "]")));
  }
  if (tuple->schema()) return c10::ivalue::Tuple::createNamed(std::move(elements), tuple);
  return c10::ivalue::Tuple::create(std::move(elements));
}

// The first type of the union that takes the value.
IValue to_union(const Napi::Value& value, const TypePtr& type, const std::string& where) {
  for (const auto& each : type->containedTypes()) try {
      return to_ivalue(value, each, where);
    } catch (const CodedError&) {
    }
  refuse(where, type, value);
}

// An enumeration's member by its name, or by its value.
IValue to_enum(const Napi::Value& value, const TypePtr& type, const std::string& where) {
  auto enum_type = type->cast<c10::EnumType>();
  std::string names;
  for (const auto& [name, member] : enum_type->enumNamesValues()) {
    bool is_name = value.IsString() && value.As<Napi::String>().Utf8Value() == name;
    bool is_value = (value.IsNumber() && member.isScalar() &&
                     member.toScalar().toDouble() == value.As<Napi::Number>().DoubleValue()) ||
                    (value.IsString() && member.isString() &&
                     member.toStringRef() == value.As<Napi::String>().Utf8Value());
    if (is_name || is_value)
      return IValue(c10::make_intrusive<c10::ivalue::EnumHolder>(enum_type, name, member));
    names += (names.empty() ? "" : ", ") + name;
  }
  fail("ERR_ARGUMENT", where, ": expected one of ", names, ", got ", show(value));
}

// Where the file says nothing about the type, the value does.
IValue to_any(const Napi::Value& value, const std::string& where) {
  if (is_none(value)) return {};
  if (value.IsArray()) {
    std::vector<IValue> elements;
    auto array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); i++)
      elements.push_back(to_any(array.Get(i), c10::str(where, "[", i, "]")));
    return c10::ivalue::Tuple::create(std::move(elements));
  }
  if (is_tensor(value)) return to_ivalue(value, c10::TensorType::get(), where);
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  if (value.IsString()) return value.As<Napi::String>().Utf8Value();
  if (value.IsNumber() || value.IsBigInt()) return to_number(value, c10::NumberType::get(), where);
  refuse(where, c10::AnyType::get(), value);
}

}  // namespace

std::string type_name(const TypePtr& type) {
  // An unannotated parameter is inferred to be a tensor; its printed form says so at length.
  return type->kind() == TypeKind::TensorType ? "Tensor" : type->annotation_str();
}

IValue to_ivalue(const Napi::Value& value, const TypePtr& type, const std::string& where) {
  switch (type->kind()) {
    case TypeKind::TensorType:
      if (!is_tensor(value)) refuse(where, type, value);
      return to_tensor(value.As<Napi::Object>().Get("tensor"));
    case TypeKind::OptionalType:
      if (is_none(value)) return {};
      return to_ivalue(value, type->castRaw<c10::OptionalType>()->getElementType(), where);
    case TypeKind::NoneType:
      if (!is_none(value)) refuse(where, type, value);
      return {};
    case TypeKind::IntType:
      return to_int(value, type, where);
    case TypeKind::FloatType:
      if (!value.IsNumber()) refuse(where, type, value);
      return value.As<Napi::Number>().DoubleValue();
    case TypeKind::ComplexType:
      return to_complex(value, type, where);
    case TypeKind::NumberType:
      return to_number(value, type, where);
    case TypeKind::BoolType:
      if (!value.IsBoolean()) refuse(where, type, value);
      return value.As<Napi::Boolean>().Value();
    case TypeKind::StringType:
      if (!value.IsString()) refuse(where, type, value);
      return value.As<Napi::String>().Utf8Value();
    case TypeKind::DeviceObjType:
      if (!value.IsString()) refuse(where, type, value);
      return parse_device(value.As<Napi::String>().Utf8Value());
    case TypeKind::ListType:
      return to_list(value, type, where);
    case TypeKind::DictType:
      return to_dict(value, type, where);
    case TypeKind::TupleType:
      return to_tuple(value, type, where);
    case TypeKind::UnionType:
      return to_union(value, type, where);
    case TypeKind::EnumType:
      return to_enum(value, type, where);
    case TypeKind::AnyType:
      return to_any(value, where);
    default:
      fail("ERR_NOT_IMPLEMENTED", where, ": values of type ", type_name(type), " have no JavaScript form");
  }
}

bool accepts_object(const TypePtr& type) {
  switch (type->kind()) {
    case TypeKind::DictType:
    case TypeKind::ComplexType:
    case TypeKind::NumberType:
    case TypeKind::AnyType:
      return true;
    case TypeKind::TupleType:
      return type->castRaw<c10::TupleType>()->schema() != nullptr;
    case TypeKind::OptionalType:
      return accepts_object(type->castRaw<c10::OptionalType>()->getElementType());
    case TypeKind::UnionType: {
      auto types = type->containedTypes();
      return std::any_of(types.begin(), types.end(), accepts_object);
    }
    default:
      return false;
  }
}

namespace {

bool is_plain(const IValue& value) {
  return value.isNone() || value.isBool() || value.isScalar() || value.isString() || value.isDevice() ||
         value.isTensor() || value.isEnum();
}

void check_form(const IValue& value, const std::string& where) {
  if (is_plain(value)) return;
  if (value.isList()) {
    for (const IValue& each : value.toListRef()) check_form(each, where);
  } else if (value.isTuple()) {
    for (const auto& each : value.toTupleRef().elements()) check_form(each, where);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) check_form(entry.value(), where);
  } else
    fail("ERR_NOT_IMPLEMENTED", where, ": values of type ", type_name(value.type()),
         " have no JavaScript form");
}

Napi::Value decode(Napi::Env env, const IValue& value);

template <typename Values>
Napi::Array decode_all(Napi::Env env, const Values& values) {
  auto array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); i++) array.Set(i, decode(env, values[i]));
  return array;
}

Napi::Value decode_tuple(Napi::Env env, const IValue& value) {
  const auto& tuple = value.toTupleRef();
  auto values = decode_all(env, tuple.elements());
  auto type = tuple.type();
  if (!type->schema()) return values;
  auto keys = Napi::Array::New(env, values.Length());
  for (uint32_t i = 0; i < values.Length(); i++) keys.Set(i, type->schema()->arguments()[i].name());
  auto object = Napi::Object::New(env);
  object.Set("keys", keys);
  object.Set("values", values);
  return object;
}

Napi::Value decode_dict(Napi::Env env, const IValue& value) {
  auto dict = value.toGenericDict();
  auto keys = Napi::Array::New(env), values = Napi::Array::New(env);
  for (const auto& entry : dict) {
    keys.Set(keys.Length(), decode(env, entry.key()));
    values.Set(values.Length(), decode(env, entry.value()));
  }
  auto object = Napi::Object::New(env);
  object.Set("keys", keys);
  object.Set("values", values);
  object.Set("isMap", dict.keyType()->kind() != TypeKind::StringType);
  return object;
}

Napi::Value decode(Napi::Env env, const IValue& value) {
  if (value.isNone()) return env.Null();
  if (value.isTensor()) {
    if (!value.toTensor().defined()) return env.Null();
    auto object = Napi::Object::New(env);
    object.Set("tensor", from_tensor(env, value.toTensor()));
    return object;
  }
  if (value.isComplexDouble()) {
    auto number = value.toComplexDouble();
    auto object = Napi::Object::New(env);
    auto keys = Napi::Array::New(env), values = Napi::Array::New(env);
    keys.Set(uint32_t{0}, "re");
    keys.Set(uint32_t{1}, "im");
    values.Set(uint32_t{0}, number.real());
    values.Set(uint32_t{1}, number.imag());
    object.Set("keys", keys);
    object.Set("values", values);
    return object;
  }
  if (value.isBool()) return Napi::Boolean::New(env, value.toBool());
  if (value.isScalar()) return encode_scalar(env, value.toScalar());
  if (value.isString()) return Napi::String::New(env, value.toStringRef());
  if (value.isDevice()) return Napi::String::New(env, value.toDevice().str());
  if (value.isEnum()) return Napi::String::New(env, value.toEnumHolder()->name());
  if (value.isList()) return decode_all(env, value.toListRef());
  if (value.isTuple()) return decode_tuple(env, value);
  return decode_dict(env, value);
}

}  // namespace

Napi::Value from_ivalue(Napi::Env env, const IValue& value, const std::string& where) {
  check_form(value, where);
  return decode(env, value);
}

}  // namespace alambic::script

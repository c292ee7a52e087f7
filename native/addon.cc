// Entry of the addon: one init per thread (main or worker).
#include "addon.h"

namespace xdp {

template <typename View>
static Bytes bytesOfView(View view) {
  uint8_t* base = static_cast<uint8_t*>(view.ArrayBuffer().Data());
  if (base == nullptr) return {nullptr, 0};
  return {base + view.ByteOffset(), view.ByteLength()};
}

Bytes bytesOf(const Napi::Value& value) {
  if (value.IsTypedArray()) return bytesOfView(value.As<Napi::TypedArray>());
  if (value.IsDataView()) return bytesOfView(value.As<Napi::DataView>());
  if (value.IsArrayBuffer()) {
    Napi::ArrayBuffer buffer = value.As<Napi::ArrayBuffer>();
    return {static_cast<uint8_t*>(buffer.Data()), buffer.ByteLength()};
  }
  return {nullptr, 0};
}

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  watchThreadEnd(env);
  exportBound(env, exports);
  exportCalls(env, exports);
  exportMemory(env, exports);
  exportWatcher(env, exports);
  return exports;
}

}  // namespace xdp

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return xdp::init(env, exports); }

NODE_API_MODULE(xdp, Init)

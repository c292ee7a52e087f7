// The system-call boundary of node-xdp. Every call answers with its value, or with -errno as a number:
// TypeScript turns that into errors. No packet, ring or eBPF logic lives here.
#pragma once
#include <napi.h>

#include <cstddef>
#include <cstdint>

namespace xdp {

// The bytes behind an ArrayBuffer view, or {nullptr, 0} for null, undefined and detached memory.
struct Bytes {
  uint8_t* data;
  size_t length;
};

Bytes bytesOf(const Napi::Value& value);

// A descriptor that is just opened (or -1) is the environment's, to be closed at the end of its thread.
void closeWithThread(napi_env env, int fd);
// close(2) for any descriptor.
int closeNow(int fd);
// Once an environment.
void watchThreadEnd(napi_env env);

void exportBound(Napi::Env env, Napi::Object exports);
void exportCalls(Napi::Env env, Napi::Object exports);
void exportMemory(Napi::Env env, Napi::Object exports);
void exportWatcher(Napi::Env env, Napi::Object exports);

}  // namespace xdp
